# docker build -t chronik . && docker run -p 9092:9092 -v chronik:/data chronik
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
# Clients are told the address that they dialled, so a published port works from the host too.
ENTRYPOINT ["/chronik"]
CMD ["start", "--data", "/data", "--kafka", "0.0.0.0:9092", "--http", "0.0.0.0:6092"]
