import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Member BOOTSTRAP TOPIC GROUP NAME PROTOCOL: what python/member.py describes, with Kafka's own client. */
public class Member {
    static volatile boolean going = true;
    static KafkaConsumer<byte[], byte[]> consumer;
    static final Map<TopicPartition, Long> following = new HashMap<>();
    static String name;

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static void say(String word, Collection<TopicPartition> partitions) {
        say(word + partitions.stream().map(p -> " " + p.partition()).collect(Collectors.joining()));
    }

    static void commit(Collection<TopicPartition> of) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        following.forEach((p, at) -> {
            if (of == null || of.contains(p)) offsets.put(p, new OffsetAndMetadata(at, name));
        });
        following.keySet().removeAll(offsets.keySet());
        if (offsets.isEmpty()) return;
        try {
            consumer.commitSync(offsets, Duration.ofSeconds(10));
            say("committed");
        } catch (KafkaException e) { // CommitFailedException, RebalanceInProgressException, FencedInstanceIdException, a timeout
            say("refused " + e.toString().replace('\n', ' '));
        }
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
        String topic = args[1];
        name = args[3];
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("reconnect.backoff.ms", "50");
        p.put("reconnect.backoff.max.ms", "500");
        p.put("retry.backoff.ms", "50");
        p.put("client.id", name);
        p.put("group.id", args[2]);
        p.put("group.protocol", args[4]);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        if (args[4].equals("classic")) {
            p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
            p.put("session.timeout.ms", "4000");
            p.put("heartbeat.interval.ms", "500");
        }
        consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say("assigned", partitions);
            }

            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                commit(partitions);
                say("revoked", partitions);
            }

            public void onPartitionsLost(Collection<TopicPartition> partitions) {
                following.keySet().removeAll(partitions);
                say("revoked", partitions);
            }
        });
        long last = System.nanoTime();
        while (going) {
            ConsumerRecords<byte[], byte[]> got = ConsumerRecords.empty();
            try {
                got = consumer.poll(Duration.ofMillis(100));
            } catch (UnknownMemberIdException e) {
                // Under KIP-848: its session had ended while it was stopped, and it asked for offsets before its heartbeat told it so.
            }
            for (var r : got) {
                say("got " + r.partition() + " " + r.offset() + " " + new String(r.value(), StandardCharsets.UTF_8));
                following.put(new TopicPartition(r.topic(), r.partition()), r.offset() + 1);
            }
            if (System.nanoTime() - last > 200_000_000L) {
                commit(null);
                last = System.nanoTime();
            }
        }
        consumer.close();
    }
}
