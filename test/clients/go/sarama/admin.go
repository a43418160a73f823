package main

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"chronik/test/clients/go/steps"
)

func administer(work func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	return work(admin)
}

// refused returns an error unless err is the one wanted.
func refused(what string, err error, want sarama.KError) error {
	var topic *sarama.TopicError
	var partition *sarama.TopicPartitionError
	if errors.As(err, &topic) && topic.Err == want || errors.As(err, &partition) && partition.Err == want || errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("%s: %v, want %v", what, err, want)
}

func adminTopics() error {
	return administer(func(admin sarama.ClusterAdmin) error {
		name := topic("admin")
		detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}
		if err := admin.CreateTopic(name, detail, true); err != nil {
			return fmt.Errorf("validate: %w", err)
		}
		if topics, err := admin.ListTopics(); err != nil || topics[name].NumPartitions != 0 {
			return fmt.Errorf("a topic that was only validated is there (%v)", err)
		}
		if err := admin.CreateTopic(name, detail, false); err != nil {
			return err
		}
		if topics, err := admin.ListTopics(); err != nil || topics[name].NumPartitions != 3 || topics[name].ReplicationFactor != 1 {
			return fmt.Errorf("listed: %+v, %v", topics[name], err)
		}
		for _, wrong := range []struct {
			what string
			err  error
			want sarama.KError
		}{
			{"the same topic again", admin.CreateTopic(name, detail, false), sarama.ErrTopicAlreadyExists},
			{"a bad name", admin.CreateTopic("no spaces", detail, false), sarama.ErrInvalidTopic},
			{"three replicas of one broker", admin.CreateTopic(name+"-3", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}, false), sarama.ErrInvalidReplicationFactor},
			{"no partitions", admin.CreateTopic(name+"-0", &sarama.TopicDetail{NumPartitions: 0, ReplicationFactor: 1}, false), sarama.ErrInvalidPartitions},
			{"fewer partitions", admin.CreatePartitions(name, 2, nil, false), sarama.ErrInvalidPartitions},
			{"delete what is not there", admin.DeleteTopic(name + "-not"), sarama.ErrUnknownTopicOrPartition},
		} {
			if err := refused(wrong.what, wrong.err, wrong.want); err != nil {
				return err
			}
		}
		if brokers, controller, err := admin.DescribeCluster(); err != nil || len(brokers) != 1 || brokers[0].ID() != controller {
			return fmt.Errorf("cluster: %v, controller %d, %v", brokers, controller, err)
		}
		if err := send(config(), name, steps.Values(20)); err != nil {
			return err
		}
		if err := admin.DeleteRecords(name, map[int32]int64{0: 5}); err != nil {
			return err
		}
		offsets, err := admin.ListOffsets(map[string]map[int32]int64{name: {0: sarama.OffsetOldest}}, nil)
		if err != nil || offsets[name][0].Offset != 5 {
			return fmt.Errorf("start after DeleteRecords: %+v, %v", offsets, err)
		}
		if err := admin.DeleteRecords(name, map[int32]int64{0: 21}); err == nil {
			return errors.New("records behind the end were deleted")
		}
		return admin.DeleteTopic(name)
	})
}

func adminConfigs() error {
	return administer(func(admin sarama.ClusterAdmin) error {
		name := topic("configs")
		if err := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
			return err
		}
		is := func(key, value string, source sarama.ConfigSource) error {
			entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{key}})
			if err != nil || len(entries) != 1 || entries[0].Value != value || entries[0].Source != source {
				return fmt.Errorf("%s is %+v, %v, want %s from %v", key, entries, err, value, source)
			}
			return nil
		}
		hour, bad := "3600000", "not a number"
		set := func(key string, operation sarama.IncrementalAlterConfigsOperation, value *string) error {
			return admin.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{key: {Operation: operation, Value: value}}, false)
		}
		return errors.Join(
			is("retention.ms", "604800000", sarama.SourceDefault),
			admin.AlterConfig(sarama.TopicResource, name, map[string]*string{"retention.ms": &hour}, false),
			is("retention.ms", hour, sarama.SourceTopic),
			set("segment.ms", sarama.IncrementalAlterConfigsOperationSet, &hour),
			is("segment.ms", hour, sarama.SourceTopic),
			is("retention.ms", hour, sarama.SourceTopic),
			set("retention.ms", sarama.IncrementalAlterConfigsOperationDelete, nil),
			is("retention.ms", "604800000", sarama.SourceDefault),
			refused("a bad value", set("segment.ms", sarama.IncrementalAlterConfigsOperationSet, &bad), sarama.ErrInvalidConfig),
			refused("an unknown key", set("no.such.key", sarama.IncrementalAlterConfigsOperationSet, &hour), sarama.ErrInvalidConfig),
			is("segment.ms", hour, sarama.SourceTopic),
		)
	})
}

func adminGroups() error {
	return administer(func(admin sarama.ClusterAdmin) error {
		name, group := topic("offsets"), topic("offsets")
		if err := send(config(), name, steps.Values(20)); err != nil {
			return err
		}
		altered, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{name: {0: {Offset: 12, Metadata: "by hand"}}}, nil)
		if err != nil || altered.Errors[name][0] != sarama.ErrNoError {
			return fmt.Errorf("alter offsets: %+v, %v", altered, err)
		}
		batch, err := admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: nil, group + "-none": nil})
		if err != nil || batch[group].Blocks[name][0].Offset != 12 || batch[group].Blocks[name][0].Metadata != "by hand" || len(batch[group+"-none"].Blocks) != 0 {
			return fmt.Errorf("offsets: %+v, %v", batch, err)
		}
		m, err := join(config(), group, name)
		if err != nil {
			return err
		}
		if err := steps.Until("what comes after the offset set by hand", func() (bool, error) { n, _ := m.state(); return n >= 8, nil }); err != nil {
			return err
		}
		if err := steps.Same(m.got, steps.Values(20)[12:]); err != nil {
			return err
		}
		described, err := admin.DescribeConsumerGroups([]string{group, group + "-none"})
		if err != nil || len(described) != 2 {
			return fmt.Errorf("described: %v, %v", described, err)
		}
		for _, d := range described {
			if want := map[string]string{group: "Stable", group + "-none": "Dead"}[d.GroupId]; d.State != want {
				return fmt.Errorf("%s is %s, want %s (%v)", d.GroupId, d.State, want, d.Err)
			}
			for _, member := range d.Members {
				if a, err := member.GetMemberAssignment(); err != nil || len(a.Topics[name]) != 1 {
					return fmt.Errorf("assignment %+v, %v", a, err)
				}
			}
		}
		if err := refused("delete a group with members", admin.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup); err != nil {
			return err
		}
		if err := refused("delete the offset of a subscribed topic", admin.DeleteConsumerGroupOffset(group, name, 0), sarama.ErrGroupSubscribedToTopic); err != nil {
			return err
		}
		if err := m.leave(); err != nil {
			return err
		}
		if err := admin.DeleteConsumerGroupOffset(group, name, 0); err != nil {
			return err
		}
		if err := admin.DeleteConsumerGroup(group); err != nil {
			return err
		}
		return refused("delete a group twice", admin.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound)
	})
}
