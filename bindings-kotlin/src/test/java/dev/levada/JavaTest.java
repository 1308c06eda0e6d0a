package dev.levada;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The client as Java sees it: the blocking calls and the futures. */
@Timeout(60)
class JavaTest {
    private static ClientOptions options() {
        return TestServer.getShared().options();
    }

    private static String newTopic(Client client) {
        String topic = TestServer.freshTopic();
        client.getAdmin().createTopicBlocking(topic, new TopicOptions().partitionCount(1).durability(Durability.MEMORY));
        return topic;
    }

    @Test
    void messagesBringTheirOwnNumbers() {
        try (Client client = Levada.connectBlocking(options())) {
            String topic = newTopic(client);
            ProducerOptions numbering = new ProducerOptions().name(topic.replace('/', '-')).externalSequence(true);
            try (Producer producer = client.producerBlocking(topic, numbering)) {
                OutgoingMessage message = new OutgoingMessage("seven").sequence(7).partition(0);
                assertEquals("7", message.getSequence().toString());
                assertEquals(0L, producer.sendBlocking(message).getOffset());
            }
            assertEquals(8L, client.getAdmin().producerProgressBlocking(topic.replace('/', '-'), topic + ":0").getNextSequence());
        }
    }

    @Test
    void blockingCallsSendAndReceive() {
        try (Client client = Levada.connectBlocking(options())) {
            String topic = newTopic(client);
            assertTrue(client.pingBlocking().compareTo(Duration.ZERO) > 0);
            try (Producer producer = client.producerBlocking(topic, new ProducerOptions().linger(Duration.ofMillis(1)))) {
                OutgoingMessage message = new OutgoingMessage("hello").key("k").header("n", 5L);
                Receipt receipt = producer.sendBlocking(message);
                assertEquals(0L, receipt.getOffset());
                Delivery delivery = producer.enqueueBlocking("second".getBytes());
                producer.flushBlocking();
                assertEquals(1L, delivery.awaitBlocking().getOffset());
                List<BatchReceipt> receipts = producer.sendBatchBlocking(List.of(new OutgoingMessage("third")));
                assertEquals(1, receipts.size());
            }
            try (Consumer consumer =
                    client.consumerBlocking(topic, new ConsumerOptions().from(Position.EARLIEST).untilEnd(true))) {
                Message first = consumer.receiveBlocking();
                assertEquals("hello", first.text());
                assertEquals(List.of(new Header("n", 5L)), first.getHeaders());
                List<String> rest = new ArrayList<>();
                for (Message message : consumer) {
                    rest.add(message.text());
                }
                assertEquals(List.of("second", "third"), rest);
                assertNull(consumer.receiveBlocking());
                assertTrue(consumer.receiveBatchBlocking().getFinished());
            }
        }
    }

    @Test
    void futuresSendAndReceive() throws Exception {
        Client client = Levada.connectAsync(options()).get(10, TimeUnit.SECONDS);
        String topic = newTopic(client);
        Producer producer = client.producerAsync(topic).get();
        CompletableFuture<Void> sent =
                CompletableFuture.allOf(producer.sendAsync("a"), producer.sendAsync("b"), producer.sendAsync("c"));
        sent.get(10, TimeUnit.SECONDS);
        assertEquals(1, client.getAdmin().describeTopicAsync(topic).get().getPartitions().size());
        Consumer consumer = client.consumerAsync(topic, new ConsumerOptions().from(Position.EARLIEST)).get();
        int count = 0;
        while (count < 3) {
            count += consumer.receiveBatchAsync().get(10, TimeUnit.SECONDS).size();
        }
        ExecutionException error =
                assertThrows(ExecutionException.class, () -> client.producerAsync(topic + "x").get(10, TimeUnit.SECONDS));
        assertEquals(ErrorCode.TOPIC_NOT_FOUND, assertInstanceOf(NotFoundException.class, error.getCause()).getCode());
        consumer.closeAsync().get();
        producer.closeAsync().get();
        client.closeAsync().get();
        assertThrows(ClosedException.class, client::pingBlocking);
    }

    @Test
    void aFutureThatIsCancelledLosesNothing() throws Exception {
        try (Client client = Levada.connectBlocking(options())) {
            String topic = newTopic(client);
            int count = 1_000;
            Thread sender = new Thread(() -> {
                try (Producer producer = client.producerBlocking(topic)) {
                    for (int index = 0; index < count; index++) {
                        producer.enqueueBlocking(Integer.toString(index).getBytes());
                        if (index % 5 == 0) {
                            producer.flushBlocking();
                        }
                    }
                }
            });
            sender.start();
            List<String> got = new ArrayList<>();
            try (Consumer consumer = client.consumerBlocking(topic, new ConsumerOptions().from(Position.EARLIEST))) {
                for (int round = 0; got.size() < count; round++) {
                    CompletableFuture<Message> receiving = consumer.receiveAsync();
                    for (int spin = 0; spin < round % 2_000; spin++) {
                        Thread.onSpinWait();
                    }
                    if (!receiving.cancel(true)) {
                        got.add(receiving.get().text());
                    } else if (round % 20 == 0) {
                        got.add(consumer.receiveAsync(Duration.ofSeconds(10)).get().text());
                    }
                }
            }
            sender.join();
            for (int index = 0; index < count; index++) {
                assertEquals(Integer.toString(index), got.get(index));
            }
        }
    }

    @Test
    void timeLimitsOfFuturesLoseNothing() throws Exception {
        try (Client client = Levada.connectBlocking(options())) {
            String topic = newTopic(client);
            try (Consumer consumer = client.consumerBlocking(topic, new ConsumerOptions().from(Position.EARLIEST))) {
                CompletableFuture<Message> limited = consumer.receiveAsync().orTimeout(20, TimeUnit.MILLISECONDS);
                assertThrows(CompletionException.class, limited::join);
                CompletableFuture<Message> own = consumer.receiveAsync(Duration.ofMillis(20));
                ExecutionException error = assertThrows(ExecutionException.class, own::get);
                assertEquals(ErrorCode.CLIENT_TIMEOUT, assertInstanceOf(TimeoutException.class, error.getCause()).getCode());
                client.producerBlocking(topic).sendBlocking("kept");
                assertEquals("kept", assertNotNull(consumer.receiveAsync().get(10, TimeUnit.SECONDS)).text());
            }
        }
    }

    @Test
    void membersOfAGroupShareAndCommit() throws Exception {
        try (Client client = Levada.connectBlocking(options())) {
            String topic = newTopic(client);
            String group = topic.replace('/', '-');
            client.producerBlocking(topic).sendPayloadsBlocking(List.of("a".getBytes(), "b".getBytes(), "c".getBytes()));
            GroupConsumerOptions options = new GroupConsumerOptions().from(Position.EARLIEST).autoCommit(false);
            Consumer first = client.groupConsumerBlocking(group, List.of(topic), options);
            TopicPartition partition = new TopicPartition(topic, 0);
            AssignmentChange assigned = new AssignmentChange(AssignmentKind.ASSIGNED, List.of(partition));
            assertEquals(assigned, first.nextChangeBlocking(Duration.ofSeconds(10)));
            assertEquals(List.of(partition), first.assignments());
            Message message = assertNotNull(first.receiveBlocking(Duration.ofSeconds(10)));
            assertEquals(topic, message.getTopic());
            assertNull(first.committedBlocking(topic, 0));
            first.commitBlocking();
            assertEquals(1L, first.committedBlocking(topic, 0));
            first.seek(0, Position.EARLIEST);
            first.seek(0, Position.offset(2), topic);
            assertEquals(2L, first.position(0, topic));
            first.commitOffsetsBlocking(List.of(new PartitionOffset(topic, 0, 2L)));
            CompletableFuture<AssignmentChange> change = first.nextChangeAsync();
            assertTrue(change.cancel(true));
            assertNull(first.nextChangeAsync(Duration.ofMillis(20)).get(10, TimeUnit.SECONDS));
            Consumer second = client.groupConsumerAsync(group, List.of(topic), options).get(10, TimeUnit.SECONDS);
            first.closeBlocking(Duration.ofSeconds(5));
            assertEquals(assigned, second.nextChangeAsync().get(10, TimeUnit.SECONDS));
            assertEquals("c", assertNotNull(second.receiveBlocking(Duration.ofSeconds(10))).text());
            second.commitAsync().get(10, TimeUnit.SECONDS);
            assertEquals(3L, second.committedAsync(topic, 0).get(10, TimeUnit.SECONDS));
            assertEquals(1, client.getAdmin().describeGroupBlocking(group).getMembers().size());
        }
    }

    private static <T> T assertNotNull(T value) {
        org.junit.jupiter.api.Assertions.assertNotNull(value);
        return value;
    }
}
