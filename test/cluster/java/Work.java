import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Work MODE BOOTSTRAP TOPIC GROUP: what python/work.py describes, with Kafka's own client. */
public class Work {
    static volatile boolean going = true;

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static Properties common(String bootstrap) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("reconnect.backoff.ms", "50");
        p.put("reconnect.backoff.max.ms", "500");
        p.put("retry.backoff.ms", "50");
        return p;
    }

    public static void main(String[] args) throws Exception {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) {
                say("error " + e);
            }
            going = false;
        });
        watch.setDaemon(true);
        watch.start();
        String topic = args[2];
        Properties p = common(args[1]);
        if (args[0].equals("produce")) {
            p.put("linger.ms", "5");
            int n = 0;
            try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
                while (going) {
                    for (int partition = 0; partition < 3; partition++, n++) {
                        String value = Integer.toString(n);
                        producer.send(new ProducerRecord<>(topic, partition, null, value.getBytes(StandardCharsets.UTF_8)), (m, e) -> {
                            if (e != null) say("error " + e.toString().replace('\n', ' '));
                            else say("ack " + m.partition() + " " + m.offset() + " " + value);
                        });
                    }
                    Thread.sleep(10);
                }
            }
            say("end " + n);
            return;
        }
        p.put("group.id", args[3]);
        p.put("auto.offset.reset", "earliest");
        p.put("auto.commit.interval.ms", "200");
        p.put("session.timeout.ms", "6000");
        p.put("heartbeat.interval.ms", "500");
        try (var consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (going) {
                for (var r : consumer.poll(Duration.ofMillis(200))) say("got " + r.partition() + " " + r.offset() + " " + new String(r.value(), StandardCharsets.UTF_8));
            }
        }
    }
}
