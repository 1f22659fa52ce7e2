// The Jetty upstream of the tests: says which servlet ran and what it read. JettyServer.java PORT

import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

public final class JettyServer {
    public static void main(String[] arguments) throws Exception {
        Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        ServletContextHandler context = new ServletContextHandler(server, "/");
        servlets().forEach((pattern, servlet) -> context.addServlet(new ServletHolder(servlet), pattern));
        server.start();
        server.join();
    }

    /** Says that it ran, and what it read. */
    static final class Ran extends HttpServlet {
        private final String handler;
        private final Set<String> methods;

        /** Runs for these methods; for none listed, for every one. */
        Ran(String handler, String... methods) {
            this.handler = handler;
            this.methods = Set.of(methods);
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            String method = request.getMethod();
            String ran = methods.isEmpty() || methods.contains(method) ? handler : "other";
            String info = request.getPathInfo() == null ? "" : request.getPathInfo();
            String body = "{\"handler\":" + quoted(ran) + ",\"method\":" + quoted(method)
                + ",\"path\":" + quoted(request.getServletPath() + info)
                + ",\"host\":" + quoted(request.getServerName())
                + ",\"user\":" + quoted(request.getHeader("x-latchkey-user"))
                + ",\"scopes\":" + quoted(request.getHeader("x-latchkey-scopes")) + "}";
            byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
            response.setContentType("application/json");
            response.setHeader("x-ran", ran);
            response.setContentLength(bytes.length);
            response.getOutputStream().write(bytes);
        }

        private static String quoted(String text) {
            if (text == null) {
                return "null";
            }
            StringBuilder json = new StringBuilder("\"");
            for (char c : text.toCharArray()) {
                json.append(c < ' ' || c > '~' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : c);
            }
            return json.append('"').toString();
        }
    }

    private static Map<String, HttpServlet> servlets() {
        return Map.of(
            "/rest/admin/*", new Ran("admin"),
            "/rest/pub/*", new Ran("pub"),
            "/public/*", new Ran("public"),
            "/write/*", new Ran("write", "POST"),
            "/report/*", new Ran("report", "GET", "HEAD"),
            "/", new Ran("other"));
    }
}
