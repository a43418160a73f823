package api

// Handlers are the API's handlers; its fields are what they call.
type Handlers struct{}
