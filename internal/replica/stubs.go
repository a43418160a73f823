package replica

import (
	"context"
	"errors"

	"chronik/internal/kafka"
)

var errUnwritten = errors.New("unwritten")

func (p *Partition) acked(*Session, kafka.Offset, kafka.Offset) error { return errUnwritten }
func (p *Partition) closeSession(*Session)                            {}
func (p *Partition) follow(FollowRequest) FollowDecision {
	return FollowDecision{Err: kafka.ErrNotLeaderOrFollower}
}
func (p *Partition) readForFollower(*Session, []byte, kafka.Offset, int) (Stretch, error) {
	return Stretch{}, errUnwritten
}
func (p *Partition) followPosition(kafka.LeaderEpoch) (FollowPosition, error) {
	return FollowPosition{}, errUnwritten
}
func (p *Partition) ackPosition(kafka.LeaderEpoch) (a, b kafka.Offset, err error) {
	return 0, 0, errUnwritten
}
func (p *Partition) appendFollower(kafka.LeaderEpoch, kafka.Offset, []byte, kafka.Offset, kafka.Offset) error {
	return errUnwritten
}
func (p *Partition) followerWatermark(kafka.LeaderEpoch, kafka.Offset, kafka.Offset) error {
	return errUnwritten
}
func (p *Partition) truncateFollower(context.Context, kafka.LeaderEpoch, EpochEnd) error {
	return errUnwritten
}
func (p *Partition) resetFollower(context.Context, kafka.LeaderEpoch, Reset) error {
	return errUnwritten
}
