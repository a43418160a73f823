package broker

import "chronik/internal/metadata"

// Image is what the node knows of the cluster's metadata now. Call it after Start.
func (b *Broker) Image() *metadata.Image { return b.controller.Image() }
