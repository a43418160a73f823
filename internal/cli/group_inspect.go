package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupDescription is a group as `group describe --json` prints it, of either protocol.
type groupDescription struct {
	Group       string         `json:"group"`
	Type        string         `json:"type"`
	State       string         `json:"state"`
	Protocol    string         `json:"protocol"`        // the assignor
	Epoch       *int32         `json:"epoch,omitempty"` // of a consumer group; the classic protocol does not tell
	Coordinator int32          `json:"coordinator"`
	Members     []memberRow    `json:"members"`
	Partitions  []committedRow `json:"partitions"`
	TotalLag    int64          `json:"total_lag"`
	// LagSeconds is the age of the oldest record that the group has not committed; null if it is not known or not asked
	// for, 0 if there is none.
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
}

type memberRow struct {
	ID         string `json:"id"`
	Instance   string `json:"instance,omitempty"`
	Client     string `json:"client"`
	Host       string `json:"host"`
	Epoch      *int32 `json:"epoch,omitempty"`
	Partitions int    `json:"partitions"`
}

type committedRow struct {
	Topic      string   `json:"topic"`
	Partition  int32    `json:"partition"`
	Committed  int64    `json:"committed"` // -1 if none
	Start      int64    `json:"start"`     // of the log
	End        int64    `json:"end"`
	Lag        int64    `json:"lag"` // records; from the log's start where nothing is committed
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	Member     string   `json:"member,omitempty"`
}

// next is the first offset that the group has not committed and that is still there.
func (r *committedRow) next() int64 { return max(r.Committed, r.Start) }

type topicPartition struct {
	topic     string
	partition int32
}

// partitionOwners are the members that hold partitions.
type partitionOwners map[topicPartition]string

// inspectGroups describes groups, of which some may be classic and some not, with offsets and lag in records.
func inspectGroups(ctx context.Context, client *kgo.Client, names []string) ([]groupDescription, error) {
	rows, err := listGroups(ctx, client, nil, nil)
	if err != nil {
		return nil, err
	}
	byName := map[string]groupRow{}
	for _, r := range rows {
		byName[r.Group] = r
	}
	adm := kadm.NewClient(client)
	all := []groupDescription{}
	owners := map[string]partitionOwners{}
	var classic, modern []string
	for _, name := range names {
		switch row, ok := byName[name]; {
		case !ok:
			return nil, fmt.Errorf("there is no group %s (GROUP_ID_NOT_FOUND); `chronik group list` shows what is there", name)
		case row.Type == "consumer":
			modern = append(modern, name)
		default:
			classic = append(classic, name)
		}
	}
	if err := describeClassic(ctx, adm, classic, &all, owners); err != nil {
		return nil, err
	}
	if err := describeModern(ctx, adm, modern, &all, owners); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b groupDescription) int { return slices.Index(names, a.Group) - slices.Index(names, b.Group) })
	return all, addOffsets(ctx, adm, all, owners)
}

func describeClassic(ctx context.Context, adm *kadm.Client, names []string, all *[]groupDescription, owners map[string]partitionOwners) error {
	if len(names) == 0 {
		return nil
	}
	described, err := adm.DescribeGroups(ctx, names...)
	if err != nil {
		return err
	}
	for _, g := range described.Sorted() {
		if g.Err != nil {
			return fmt.Errorf("describe group %s: %w", g.Group, g.Err)
		}
		d := groupDescription{Group: g.Group, Type: "classic", State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID, Members: []memberRow{}}
		held := partitionOwners{}
		for _, m := range g.Members {
			row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
			if m.InstanceID != nil {
				row.Instance = *m.InstanceID
			}
			if a, ok := m.Assigned.AsConsumer(); ok {
				for _, t := range a.Topics {
					row.Partitions += len(t.Partitions)
					held.add(t.Topic, t.Partitions, m.MemberID)
				}
			}
			d.Members = append(d.Members, row)
		}
		*all, owners[g.Group] = append(*all, d), held
	}
	return nil
}

func describeModern(ctx context.Context, adm *kadm.Client, names []string, all *[]groupDescription, owners map[string]partitionOwners) error {
	if len(names) == 0 {
		return nil
	}
	described, err := adm.DescribeConsumerGroups(ctx, names...)
	if err != nil {
		return err
	}
	for _, g := range described.Sorted() {
		if g.Err != nil {
			return fmt.Errorf("describe group %s: %w", g.Group, g.Err)
		}
		d := groupDescription{Group: g.Group, Type: "consumer", State: g.State, Protocol: g.AssignorName, Epoch: &g.Epoch, Coordinator: g.Coordinator.NodeID, Members: []memberRow{}}
		held := partitionOwners{}
		for _, m := range g.Members {
			row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Epoch: &m.MemberEpoch}
			if m.InstanceID != nil {
				row.Instance = *m.InstanceID
			}
			for topic, partitions := range m.Assignment {
				row.Partitions += len(partitions)
				held.add(topic, slices.Collect(maps.Keys(partitions)), m.MemberID)
			}
			d.Members = append(d.Members, row)
		}
		*all, owners[g.Group] = append(*all, d), held
	}
	return nil
}

func (o partitionOwners) add(topic string, partitions []int32, member string) {
	for _, p := range partitions {
		o[topicPartition{topic, p}] = member
	}
}

// addOffsets adds the partitions that the groups have committed or hold, and how far behind they are.
func addOffsets(ctx context.Context, adm *kadm.Client, all []groupDescription, owners map[string]partitionOwners) error {
	topics := map[string]struct{}{}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Group
	}
	fetched := adm.FetchManyOffsets(ctx, names...)
	for i := range all {
		g := &all[i]
		f := fetched[g.Group]
		if f.Err != nil {
			return fmt.Errorf("offsets of group %s: %w", g.Group, f.Err)
		}
		g.Partitions = []committedRow{}
		held := owners[g.Group]
		f.Fetched.Each(func(o kadm.OffsetResponse) {
			at := topicPartition{o.Topic, o.Partition}
			g.Partitions = append(g.Partitions, committedRow{Topic: o.Topic, Partition: o.Partition, Committed: o.At, Member: held[at]})
			delete(held, at)
		})
		for at, member := range held { // sorted below
			g.Partitions = append(g.Partitions, committedRow{Topic: at.topic, Partition: at.partition, Committed: -1, Member: member})
		}
		slices.SortFunc(g.Partitions, func(a, b committedRow) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		for _, p := range g.Partitions {
			topics[p.Topic] = struct{}{}
		}
	}
	if len(topics) == 0 { // no topics would mean all of them
		return nil
	}
	asked := slices.Sorted(maps.Keys(topics))
	starts, err := listed(ctx, adm.ListStartOffsets, asked...)
	if err != nil {
		return err
	}
	ends, err := listed(ctx, adm.ListEndOffsets, asked...)
	if err != nil {
		return err
	}
	for i := range all {
		if err := addLag(&all[i], starts, ends); err != nil {
			return err
		}
	}
	return nil
}

func addLag(g *groupDescription, starts, ends kadm.ListedOffsets) error {
	for i := range g.Partitions {
		p := &g.Partitions[i]
		start, known := starts.Lookup(p.Topic, p.Partition)
		end, _ := ends.Lookup(p.Topic, p.Partition)
		err := errors.Join(start.Err, end.Err)
		switch {
		case !known || errors.Is(err, kerr.UnknownTopicOrPartition): // it was deleted
			p.Start, p.End, p.Lag = -1, -1, 0
			continue
		case err != nil:
			return fmt.Errorf("offsets of %s/%d: %w", p.Topic, p.Partition, err)
		}
		p.Start, p.End = start.Offset, end.Offset
		p.Lag = max(0, p.End-p.next())
		g.TotalLag += p.Lag
	}
	return nil
}

// lagAgesMax bounds how long the ages of records are waited for.
const lagAgesMax = 5 * time.Second

// addAges finds how old the first record is that each group has not committed: it reads one batch of each partition that
// lags. What cannot be read in time stays unknown.
func addAges(ctx context.Context, c *clientFlags, all []groupDescription, now time.Time) error {
	ages, err := recordTimes(ctx, c, wantedOffsets(all))
	if err != nil {
		return err
	}
	for i := range all {
		g := &all[i]
		oldest, known := 0.0, true
		for j := range g.Partitions {
			p := &g.Partitions[j]
			seconds := 0.0
			if p.Lag > 0 {
				at, ok := ages[recordPlace{p.Topic, p.Partition, p.next()}]
				if !ok {
					known = false
					continue
				}
				seconds = max(0, now.Sub(at).Seconds())
			}
			p.LagSeconds = &seconds
			oldest = max(oldest, seconds)
		}
		if known {
			g.LagSeconds = &oldest
		}
	}
	return nil
}

// recordPlace is where a record is looked for: at the offset or behind it.
type recordPlace struct {
	topic     string
	partition int32
	offset    int64
}

func wantedOffsets(all []groupDescription) map[recordPlace]struct{} {
	wanted := map[recordPlace]struct{}{}
	for i := range all {
		for _, p := range all[i].Partitions {
			if p.Lag > 0 {
				wanted[recordPlace{p.Topic, p.Partition, p.next()}] = struct{}{}
			}
		}
	}
	return wanted
}

// recordTimes reads the timestamps of the first records at places. Several places of one partition take several rounds.
func recordTimes(ctx context.Context, c *clientFlags, wanted map[recordPlace]struct{}) (map[recordPlace]time.Time, error) {
	found := map[recordPlace]time.Time{}
	ctx, cancel := context.WithTimeout(ctx, lagAgesMax)
	defer cancel()
	for len(wanted) > 0 && ctx.Err() == nil {
		round := map[string]map[int32]kgo.Offset{}
		places := map[topicPartition]recordPlace{}
		for place := range wanted {
			at := topicPartition{place.topic, place.partition}
			if _, taken := places[at]; taken {
				continue
			}
			places[at] = place
			if round[place.topic] == nil {
				round[place.topic] = map[int32]kgo.Offset{}
			}
			round[place.topic][place.partition] = kgo.NewOffset().At(place.offset)
			delete(wanted, place)
		}
		if err := readRound(ctx, c, round, places, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// readRound reads from each partition until it has given a record. A control record counts: it is what the group has to
// step over.
func readRound(ctx context.Context, c *clientFlags, round map[string]map[int32]kgo.Offset, places map[topicPartition]recordPlace, found map[recordPlace]time.Time) error {
	client, err := c.open(kgo.ConsumePartitions(round), kgo.FetchMaxPartitionBytes(1), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	for len(places) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil // what was not read is not known
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			at := topicPartition{p.Topic, p.Partition}
			if place, ok := places[at]; ok && len(p.Records) > 0 {
				found[place] = p.Records[0].Timestamp
				delete(places, at)
				client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
			}
		})
	}
	return nil
}
