// The Tomcat upstream of the tests: says which servlet ran and what it read. TomcatServer.java PORT FOLDER
//
// It takes more than Tomcat does unless told to: what it refuses is no way around a rule, so it refuses little.

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

public final class TomcatServer {
    public static void main(String[] arguments) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setPort(Integer.parseInt(arguments[0]));
        tomcat.setBaseDir(arguments[1]);
        Connector connector = tomcat.getConnector();
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("relaxedPathChars", "\"<>[\\]^`{|}");
        connector.setEncodedSolidusHandling("decode");
        connector.setEncodedReverseSolidusHandling("decode");
        connector.setAllowBackslash(true);
        Context context = tomcat.addContext("", null);
        servlets().forEach((pattern, servlet) -> {
            Tomcat.addServlet(context, pattern, servlet);
            context.addServletMappingDecoded(pattern, pattern);
        });
        tomcat.start();
        tomcat.getServer().await();
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
