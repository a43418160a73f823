import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * NextMember BOOTSTRAP GROUP NAME INSTANCE|- PROTOCOL TOPIC,TOPIC|^PATTERN: a member of a consumer group. Prints "assigned
 * TOPIC/PARTITION ...", "revoked ..." and "got TOPIC/PARTITION OFFSET"; leaves when standard input ends.
 */
public class NextMember {
    static volatile boolean going = true;

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static void say(String word, Collection<TopicPartition> partitions) {
        say(word + partitions.stream().map(p -> " " + p.topic() + "/" + p.partition()).collect(Collectors.joining()));
    }

    public static void main(String[] args) {
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
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("group.id", args[1]);
        p.put("client.id", args[2]);
        if (!args[3].equals("-")) p.put("group.instance.id", args[3]);
        p.put("group.protocol", args[4]);
        p.put("auto.offset.reset", "earliest");
        p.put("auto.commit.interval.ms", "200");
        p.put("metadata.max.age.ms", "2000");
        if (args[4].equals("classic")) {
            p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
            p.put("session.timeout.ms", "6000");
            p.put("heartbeat.interval.ms", "300");
        }
        var listener = new ConsumerRebalanceListener() {
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say("assigned", partitions);
            }

            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                say("revoked", partitions);
            }
        };
        try (var consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            if (args[5].startsWith("^")) consumer.subscribe(new SubscriptionPattern(args[5]), listener);
            else consumer.subscribe(List.of(args[5].split(",")), listener);
            while (going)
                for (var r : consumer.poll(Duration.ofMillis(100))) say("got " + r.topic() + "/" + r.partition() + " " + r.offset());
        } catch (Throwable e) {
            say(("error " + e).replace('\n', ' '));
        }
    }
}
