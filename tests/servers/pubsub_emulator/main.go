// A Pub/Sub server for tests: Google's own fake, behind a port. It keeps everything in memory.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	port := flag.Int("port", 8085, "port on 127.0.0.1")
	flag.Parse()
	// Other than NewServer this lets the port be chosen, so that a restarted server is found again.
	server := pstest.NewServerWithPort(*port)
	log.Printf("listening on %s", server.Addr)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	server.Close()
}
