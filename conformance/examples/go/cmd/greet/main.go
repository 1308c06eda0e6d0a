// Command greet sends a greeting and reads all there are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"time"

	"example.org/levada"
)

func main() {
	options := levada.DefaultOptions()
	flag.StringVar(&options.Server, "server", options.Server, "address of the server")
	flag.StringVar(&options.TokenFile, "token", "levada-data/root.token", "file that holds a token")
	text := flag.String("text", "hello", "what to say")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := greet(ctx, options, *text); err != nil {
		log.Fatal(err)
	}
}

func greet(ctx context.Context, options *levada.Options, text string) error {
	client, err := levada.Connect(ctx, options)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	const topic = "demo/greetings"
	if _, err := client.CreateTopic(ctx, topic, nil); err != nil && !errors.Is(err, levada.CodeAlreadyExists) {
		return err
	}
	producer, err := client.Producer(ctx, topic, nil)
	if err != nil {
		return err
	}
	receipt, err := producer.Send(ctx, &levada.Message{Payload: []byte(text)})
	if err != nil {
		return err
	}
	fmt.Printf("stored at offset %d of partition %d, durability %s\n", *receipt.Offset, receipt.Partition, receipt.Durability)
	from := levada.DefaultConsumerOptions()
	from.From, from.UntilEnd = levada.Earliest(), true
	consumer, err := client.Consumer(ctx, topic, from)
	if err != nil {
		return err
	}
	for {
		message, err := consumer.Receive(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("%d:%d %s\n", message.Partition, message.Offset, message.Payload)
	}
}
