// Creates a topic, sends messages one by one and many together, and reads them back.
// Connects as the environment says: LEVADA_SERVER and LEVADA_TOKEN_FILE, or a server of the same user on this machine.
#include <iostream>
#include <levada.hpp>
#include <string>

int main() try {
  using namespace std::chrono_literals;
  levada::Client client;
  try {
    client.create_topic("shop/fruit", {{"partition_count", 1}, {"retention_age_ms", 24h}});
  } catch (const levada::ConflictError &error) {
    if (error.code() != LEVADA_E_ALREADY_EXISTS) throw;
  }

  levada::Producer producer = client.producer("shop/fruit", {{"linger_ms", 5ms}});
  levada::Message lemons("two lemons");
  lemons.key = "market";
  lemons.headers.push_back({"price", 1.5});
  levada::Receipt receipt = producer.send(lemons);
  std::cout << "sent to partition " << receipt.partition << " at offset " << receipt.offset.value() << "\n";
  producer.send_batch({"a melon", "a pear", "an apple"});
  producer.close();

  levada::Consumer consumer = client.consumer("shop/fruit", {{"from", "earliest"}, {"until_end", true}});
  for (bool finished = false; !finished;) {
    levada::Batch batch = consumer.receive_batch(1s);
    for (levada::MessageView message : batch) {
      std::cout << message.offset() << ": " << message.payload();
      for (const levada::Header &header : message.headers())
        if (const double *price = std::get_if<double>(&header.value)) std::cout << " at " << *price;
      std::cout << "\n";
    }
    finished = batch.finished();
  }
  client.close();
} catch (const levada::Error &error) {
  std::cerr << error.what() << "\n";
  return 1;
}
