// The official Java client, whichever release is on the class path, on one server by each transport.
// `java Older.java URL`: ends with 0 and a line for each transport, or with 1 and what was missing.

import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Older {
    static final String TEXT = "żółć 🦀";

    public static void main(String[] arguments) {
        try {
            String[][] rows = {{"polling"}, {"websocket"}, {"polling", "websocket"}};
            for (String[] transports : rows) {
                run(arguments[0], transports);
                System.out.println("ok " + String.join(", ", transports));
            }
            System.exit(0);
        } catch (Throwable fault) {
            fault.printStackTrace();
            System.exit(1);
        }
    }

    static void run(String url, String[] transports) throws Exception {
        Socket first = open(url, transports);
        Socket second = open(url, transports);
        BlockingQueue<Object[]> heard = new LinkedBlockingQueue<>();
        second.on("room-event", heard::add);
        String room = "java " + String.join("-", transports);
        expect(true, ask(second, "join", room)[0]);
        expect(TEXT, ask(first, "message-with-ack", TEXT)[0]);
        for (int number = 0; number < 20; number++) {
            byte[] bytes = {(byte) number, 0, (byte) 0xff};
            first.emit("room", room, number, TEXT, bytes);
        }
        for (int number = 0; number < 20; number++) {
            Object[] event = heard.poll(5, TimeUnit.SECONDS);
            if (event == null) throw new Exception("message " + number + " did not come");
            expect(number, event[0]);
            expect(TEXT, event[1]);
            byte[] bytes = {(byte) number, 0, (byte) 0xff};
            if (!Arrays.equals(bytes, (byte[]) event[2])) throw new Exception("other bytes: " + Arrays.toString((byte[]) event[2]));
        }
        first.disconnect();
        second.disconnect();
    }

    static Socket open(String url, String[] transports) throws Exception {
        IO.Options options = new IO.Options();
        options.forceNew = true;
        options.reconnection = false;
        options.transports = transports;
        Socket socket = IO.socket(url, options);
        BlockingQueue<Object[]> connected = new LinkedBlockingQueue<>();
        socket.on(Socket.EVENT_CONNECT, connected::add);
        socket.connect();
        if (connected.poll(5, TimeUnit.SECONDS) == null) throw new Exception("not connected");
        return socket;
    }

    static Object[] ask(Socket socket, String event, Object argument) throws Exception {
        BlockingQueue<Object[]> answers = new LinkedBlockingQueue<>();
        socket.emit(event, new Object[] {argument}, (Ack) answers::add);
        Object[] answer = answers.poll(5, TimeUnit.SECONDS);
        if (answer == null) throw new Exception("no answer to " + event);
        return answer;
    }

    static void expect(Object expected, Object seen) throws Exception {
        if (!expected.equals(seen)) throw new Exception(expected + " expected, not " + seen);
    }
}
