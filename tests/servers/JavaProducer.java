import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Publishes one message per key, each key in hex on a line of standard input, with Java's default settings. */
class JavaProducer {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0]);
        byte[] value = "java".getBytes();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
             var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in))) {
            for (String line; (line = lines.readLine()) != null; ) {
                byte[] key = HexFormat.of().parseHex(line);
                producer.send(new ProducerRecord<>(arguments[1], key, value));
            }
        }
    }
}
