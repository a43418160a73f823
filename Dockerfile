# docker build -t chronik . && docker run -p 9092:9092 -e CHRONIK_ADVERTISE=localhost -v chronik:/data chronik
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /chronik ./cmd/chronik

FROM scratch
COPY --from=build /chronik /chronik
VOLUME /data
EXPOSE 9092 6092
# Clients are told the address that they dialled. A published port is translated on the way, so the node must be told:
# CHRONIK_ADVERTISE=localhost for clients on this host, the host's name for others.
ENTRYPOINT ["/chronik"]
CMD ["start", "--data", "/data", "--kafka", "0.0.0.0:9092", "--http", "0.0.0.0:6092"]
