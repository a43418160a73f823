import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What a user of Kafka's own Java client does: Suite BOOTSTRAP PREFIX. Prints "ok NAME" or "not ok NAME: why" a step. */
public class Suite {
    static final int N = 300;
    static String bootstrap, prefix;
    static int failed;

    interface Body { void run() throws Exception; }

    static void step(String name, Body body) {
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable e) {
            failed++;
            StackTraceElement at = Arrays.stream(e.getStackTrace()).filter(f -> f.getClassName().startsWith("Suite")).findFirst().orElse(null);
            System.out.println(("not ok " + name + ": " + e + " (" + at + ")").replace('\n', ' '));
        }
        System.out.flush();
    }

    static void check(boolean ok, Object what) {
        if (!ok) throw new AssertionError(String.valueOf(what));
    }

    static String topic(String name) { return prefix + "-" + name; }

    static List<byte[]> values() {
        List<byte[]> all = new ArrayList<>();
        for (int i = 0; i < N; i++) {
            byte[] head = i == 7 ? new byte[0] : ("value-" + i + "-").getBytes(StandardCharsets.UTF_8);
            byte[] v = Arrays.copyOf(head, head.length + (i == 7 ? 0 : i * 13 % 400));
            Arrays.fill(v, head.length, v.length, (byte) i);
            all.add(v);
        }
        return all;
    }

    static KafkaProducer<byte[], byte[]> producer(String... kv) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("max.block.ms", "15000");
        for (int i = 0; i < kv.length; i += 2) p.put(kv[i], kv[i + 1]);
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group, String... kv) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("allow.auto.create.topics", "false");
        if (group != null) p.put("group.id", group);
        for (int i = 0; i < kv.length; i += 2) p.put(kv[i], kv[i + 1]);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<ConsumerRecord<byte[], byte[]>> drain(KafkaConsumer<byte[], byte[]> c, int want) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long end = System.currentTimeMillis() + 90000;
        while (got.size() < want && System.currentTimeMillis() < end) c.poll(Duration.ofMillis(500)).forEach(got::add);
        return got;
    }

    static List<String> sorted(List<byte[]> values) {
        return values.stream().map(Arrays::toString).sorted().toList();
    }

    static List<byte[]> valuesOf(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    static Throwable failure(Future<?> f) throws InterruptedException {
        try {
            f.get();
            return null;
        } catch (ExecutionException e) {
            return e.getCause();
        }
    }

    static void produceAndConsume(String codec) {
        for (String acks : List.of("0", "1", "all")) {
            step("produce " + codec + " acks=" + acks, () -> {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                try (var p = producer("compression.type", codec, "acks", acks, "enable.idempotence", "false", "linger.ms", "5")) {
                    for (byte[] v : values()) {
                        var r = new ProducerRecord<>(topic(codec), acks.getBytes(), v);
                        r.headers().add("acks", acks.getBytes());
                        sent.add(p.send(r));
                    }
                }
                for (var f : sent) check(f.get().hasOffset() || acks.equals("0"), f.get());
            });
        }
        step("consume " + codec + " by assignment", () -> {
            try (var c = consumer(null)) {
                List<TopicPartition> parts = c.partitionsFor(topic(codec)).stream().map(i -> new TopicPartition(i.topic(), i.partition())).toList();
                c.assign(parts);
                c.seekToBeginning(parts);
                var got = drain(c, 3 * N);
                for (String acks : List.of("0", "1", "all")) {
                    var mine = got.stream().filter(r -> new String(r.headers().lastHeader("acks").value()).equals(acks)).toList();
                    check(sorted(valuesOf(mine)).equals(sorted(values())), "acks " + acks + ": " + mine.size());
                }
            }
        });
    }

    static void groups() {
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            step("consume in a group and resume, " + assignor, () -> {
                String group = topic("group-" + assignor), strategy = "org.apache.kafka.clients.consumer." + assignor;
                try (var p = producer()) {
                    if (assignor.equals("RangeAssignor"))
                        for (int i = 0; i < N; i++) p.send(new ProducerRecord<>(topic("basic"), i % 3, null, values().get(i)));
                }
                try (var c = consumer(group, "partition.assignment.strategy", strategy)) {
                    c.subscribe(List.of(topic("basic")));
                    check(sorted(valuesOf(drain(c, N))).equals(sorted(values())), "values differ");
                    c.commitSync();
                }
                try (var a = consumer(group, "partition.assignment.strategy", strategy); var b = consumer(group, "partition.assignment.strategy", strategy)) {
                    a.subscribe(List.of(topic("basic")));
                    b.subscribe(List.of(topic("basic")));
                    long end = System.currentTimeMillis() + 90000;
                    int extra = 0;
                    while ((a.assignment().isEmpty() || b.assignment().isEmpty() || a.assignment().size() + b.assignment().size() != 3) && System.currentTimeMillis() < end) {
                        extra += a.poll(Duration.ofMillis(200)).count();
                        extra += b.poll(Duration.ofMillis(200)).count();
                    }
                    Set<Integer> all = new TreeSet<>();
                    a.assignment().forEach(t -> all.add(t.partition()));
                    b.assignment().forEach(t -> all.add(t.partition()));
                    check(all.size() == 3 && extra == 0, all + " and " + extra + " records again");
                }
            });
        }
    }

    static void seek() {
        step("seek by offset and timestamp", () -> {
            long base = System.currentTimeMillis() - 100000;
            TopicPartition tp = new TopicPartition(topic("times"), 0);
            try (var p = producer()) {
                for (int i = 0; i < 100; i++) p.send(new ProducerRecord<>(tp.topic(), 0, base + i * 10, null, ("" + i).getBytes()));
            }
            try (var c = consumer(null)) {
                c.assign(List.of(tp));
                c.seek(tp, 42);
                check(new String(drain(c, 1).get(0).value()).equals("42"), "offset 42");
                var found = c.offsetsForTimes(Map.of(tp, base + 505)).get(tp);
                check(found.offset() == 51 && found.timestamp() == base + 510, found);
                check(c.beginningOffsets(List.of(tp)).get(tp) == 0 && c.endOffsets(List.of(tp)).get(tp) == 100, "watermarks");
            }
        });
    }

    static void errors() {
        step("idempotent producer", () -> {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            try (var p = producer("acks", "all", "enable.idempotence", "true", "batch.size", "200")) {
                for (byte[] v : values()) sent.add(p.send(new ProducerRecord<>(topic("idempotent"), 0, null, v)));
            }
            for (int i = 0; i < N; i++) check(sent.get(i).get().offset() == i, "offset " + sent.get(i).get().offset());
        });
        step("error on an oversized record", () -> {
            try (var p = producer("max.request.size", "20000000", "buffer.memory", "64000000")) {
                Throwable e = failure(p.send(new ProducerRecord<>(topic("basic"), new byte[2 << 20])));
                check(e instanceof RecordTooLargeException, e);
            }
        });
        step("error on an unknown topic", () -> {
            try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                Throwable e = failure(admin.describeTopics(List.of(topic("never-made"))).allTopicNames());
                check(e instanceof UnknownTopicOrPartitionException, e);
            }
            try (var c = consumer(null)) {
                check(c.partitionsFor(topic("never-made")).isEmpty(), "partitions");
            }
        });
    }

    static void admin() {
        step("create topic", () -> {
            try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                var created = admin.createTopics(List.of(new NewTopic(topic("basic"), 2, (short) 1).configs(Map.of("retention.ms", "86400000"))));
                check(created.numPartitions(topic("basic")).get() == 2, "partitions");
                admin.createPartitions(Map.of(topic("basic"), NewPartitions.increaseTo(3))).all().get();
                check(admin.describeTopics(List.of(topic("basic"))).allTopicNames().get().get(topic("basic")).partitions().size() == 3, "3 partitions");
                check(!admin.describeCluster().clusterId().get().isEmpty() && admin.describeCluster().nodes().get().size() >= 1, "cluster");
            }
        });
        step("describe and alter configs", () -> {
            ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic("basic"));
            try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                check(admin.describeConfigs(List.of(r)).all().get().get(r).get("retention.ms").value().equals("86400000"), "before");
                admin.incrementalAlterConfigs(Map.of(r, List.of(
                    new AlterConfigOp(new ConfigEntry("retention.ms", "3600000"), AlterConfigOp.OpType.SET),
                    new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000"), AlterConfigOp.OpType.SET)))).all().get();
                check(admin.describeConfigs(List.of(r)).all().get().get(r).get("retention.ms").value().equals("3600000"), "after");
                try (var p = producer()) {
                    check(failure(p.send(new ProducerRecord<>(topic("basic"), new byte[3000]))) instanceof RecordTooLargeException, "limit");
                }
                admin.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("max.message.bytes", ""), AlterConfigOp.OpType.DELETE)))).all().get();
                check(failure(admin.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("no.such.key", "1"), AlterConfigOp.OpType.SET)))).all()) != null, "unknown key");
            }
        });
    }

    static void adminOffsets() {
        step("offsets, delete records, groups, delete topic", () -> {
            TopicPartition tp = new TopicPartition(topic("times"), 0);
            String group = topic("group-RangeAssignor");
            try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                check(admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).partitionResult(tp).get().offset() == 99, "max timestamp");
                check(admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(10))).lowWatermarks().get(tp).get().lowWatermark() == 10, "low watermark");
                check(admin.listOffsets(Map.of(tp, OffsetSpec.earliest())).partitionResult(tp).get().offset() == 10, "earliest");
                check(admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty(), "members");
                long sum = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(OffsetAndMetadata::offset).sum();
                check(sum == N, "committed " + sum);
                admin.alterConsumerGroupOffsets(group, Map.of(new TopicPartition(topic("basic"), 0), new OffsetAndMetadata(5, Optional.empty(), "m"))).all().get();
                check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(new TopicPartition(topic("basic"), 0)).metadata().equals("m"), "metadata");
                admin.deleteConsumerGroups(List.of(group)).all().get();
                admin.deleteTopics(List.of(topic("times"))).all().get();
                long end = System.currentTimeMillis() + 60000;
                while (admin.listTopics().names().get().contains(topic("times")) && System.currentTimeMillis() < end) Thread.sleep(100);
                check(!admin.listTopics().names().get().contains(topic("times")), "still listed");
            }
        });
    }

    public static void main(String[] args) {
        bootstrap = args[0];
        prefix = args[1];
        admin();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) produceAndConsume(codec);
        groups();
        seek();
        errors();
        adminOffsets();
        System.exit(failed == 0 ? 0 : 1);
    }
}
