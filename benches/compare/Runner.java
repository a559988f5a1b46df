// Runs Flink SQL scripts in one JVM, and writes what their last statement answers as a changelog in JSON lines.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ResultKind;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.MultisetType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * {@code Runner [KEY=VALUE]...}: Flink settings as arguments; standard input names a script and a file for its rows in
 * each line, divided by a tab. Answers each line by one JSON line: the seconds that it took, those until its first row, and
 * the process's CPU seconds in the meantime; or what Flink refused it with. The derived schema is written beside the rows, to {@code FILE.schema}.
 */
public final class Runner {
    private static final Pattern SET = Pattern.compile("(?is)\\s*SET\\s+'([^']*)'\\s*=\\s*'([^']*)'\\s*");

    public static void main(String[] args) throws Exception {
        Configuration settings = new Configuration();
        for (String arg : args) {
            String[] entry = arg.split("=", 2);
            settings.setString(entry[0], entry[1]);
        }
        MiniCluster cluster = new MiniCluster(new MiniClusterConfiguration.Builder().setConfiguration(settings)
                .setNumSlotsPerTaskManager(Integer.parseInt(settings.toMap().getOrDefault("parallelism.default", "1"))).build());
        cluster.start();
        settings.setString("execution.target", "remote");
        settings.setString("rest.address", "localhost");
        settings.setString("rest.port", String.valueOf(cluster.getRestAddress().get().getPort()));
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String order = orders.readLine(); order != null; order = orders.readLine()) {
            String[] paths = order.split("\t");
            long cpu = cpuNanos();
            long started = System.nanoTime();
            String outcome;
            try {
                long first = run(Files.readString(Path.of(paths[0])), Path.of(paths[1]), settings);
                outcome = ",\"first_row_s\":" + (first == 0 ? "null" : String.format("%.3f", (first - started) / 1e9));
            } catch (Throwable problem) {
                outcome = ",\"error\":" + quoted(reasons(problem));
            }
            System.out.printf("{\"wall_s\":%.3f,\"cpu_s\":%.3f%s}%n",
                    (System.nanoTime() - started) / 1e9, (cpuNanos() - cpu) / 1e9, outcome);
            System.out.flush();
        }
        cluster.close();
    }

    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static String reasons(Throwable problem) {
        StringJoiner all = new StringJoiner("\n");
        for (Throwable p = problem; p != null; p = p.getCause()) {
            String message = String.valueOf(p.getMessage());
            all.add(p.getClass().getName() + ": " + message.lines().findFirst().orElse(""));
        }
        return all.toString();
    }

    /** Runs a script; gives when the first row came, 0 if none did. */
    private static long run(String script, Path out, Configuration settings) throws Exception {
        long first = 0;
        TableEnvironment env = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        for (String statement : statements(script)) {
            Matcher set = SET.matcher(statement);
            if (set.matches()) {
                env.getConfig().set(set.group(1), set.group(2));
                continue;
            }
            TableResult result = env.executeSql(statement);
            if (result.getJobClient().isPresent() && result.getResultKind() == ResultKind.SUCCESS_WITH_CONTENT
                    && !statement.stripLeading().toUpperCase().startsWith("INSERT")
                    && !statement.stripLeading().toUpperCase().startsWith("EXECUTE")) {
                first = write(result, out);
            } else {
                result.await();
            }
        }
        return first;
    }

    /** The statements of a script, without those in quotes and comments being taken for one's end. */
    private static List<String> statements(String script) {
        Matcher part = Pattern.compile("--[^\n]*|/\\*.*?\\*/|'[^']*'|`[^`]*`|\"[^\"]*\"|;|[^;]", Pattern.DOTALL).matcher(script);
        List<String> all = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        while (part.find()) {
            String text = part.group();
            if (text.equals(";")) {
                all.add(statement.toString());
                statement.setLength(0);
            } else if (!text.startsWith("--") && !(text.startsWith("/*") && !text.startsWith("/*+"))) {
                statement.append(text);
            }
        }
        all.add(statement.toString());
        all.removeIf(String::isBlank);
        return all;
    }

    private static long write(TableResult result, Path out) throws Exception {
        List<Column> columns = result.getResolvedSchema().getColumns();
        StringJoiner schema = new StringJoiner(",\n  ", "[\n  ", "\n]\n");
        for (Column c : columns) {
            String type = c.getDataType().getLogicalType().asSerializableString();
            schema.add("{\"name\":" + quoted(c.getName()) + ",\"type\":" + quoted(type) + "}");
        }
        Files.writeString(Path.of(out + ".schema"), schema.toString());
        long first = 0;
        try (PrintWriter lines = new PrintWriter(Files.newBufferedWriter(out));
                CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                first = first == 0 ? System.nanoTime() : first;
                StringJoiner fields = new StringJoiner(",", "{", "}");
                for (int i = 0; i < columns.size(); i++) {
                    LogicalType type = columns.get(i).getDataType().getLogicalType();
                    fields.add(quoted(columns.get(i).getName()) + ":" + json(row.getField(i), type));
                }
                lines.println("{\"op\":\"" + row.getKind().shortString() + "\",\"row\":" + fields + "}");
            }
        }
        return first;
    }

    private static String json(Object value, LogicalType type) {
        if (value == null) {
            return "null";
        }
        StringJoiner parts;
        switch (type.getTypeRoot()) {
            case BOOLEAN: case TINYINT: case SMALLINT: case INTEGER: case BIGINT:
                return value.toString();
            case FLOAT: case DOUBLE:
                double number = ((Number) value).doubleValue();
                return Double.isFinite(number) ? value.toString() : quoted(value.toString());
            case DECIMAL:
                return quoted(((BigDecimal) value).toPlainString());
            case BINARY: case VARBINARY:
                return quoted(Base64.getEncoder().encodeToString((byte[]) value));
            case TIMESTAMP_WITHOUT_TIME_ZONE:
                return quoted(timestamp((LocalDateTime) value, LogicalTypeChecks.getPrecision(type)));
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                LocalDateTime utc = LocalDateTime.ofInstant((Instant) value, ZoneOffset.UTC);
                return quoted(timestamp(utc, LogicalTypeChecks.getPrecision(type)) + "Z");
            case TIME_WITHOUT_TIME_ZONE:
                return quoted(((java.time.LocalTime) value).format(DateTimeFormatter.ISO_LOCAL_TIME));
            case ARRAY:
                parts = new StringJoiner(",", "[", "]");
                for (int i = 0; i < Array.getLength(value); i++) {
                    parts.add(json(Array.get(value, i), ((ArrayType) type).getElementType()));
                }
                return parts.toString();
            case MAP: case MULTISET:
                boolean map = type.is(LogicalTypeRoot.MAP);
                LogicalType of = map ? ((MapType) type).getKeyType() : ((MultisetType) type).getElementType();
                parts = new StringJoiner(",", "{", "}");
                for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                    String key = json(entry.getKey(), of);
                    String count = map ? json(entry.getValue(), ((MapType) type).getValueType()) : entry.getValue().toString();
                    parts.add((key.startsWith("\"") ? key : quoted(key)) + ":" + count);
                }
                return parts.toString();
            case ROW: case STRUCTURED_TYPE:
                parts = new StringJoiner(",", "{", "}");
                List<String> names = LogicalTypeChecks.getFieldNames(type);
                for (int i = 0; i < names.size(); i++) {
                    parts.add(quoted(names.get(i)) + ":" + json(((Row) value).getField(i), LogicalTypeChecks.getFieldTypes(type).get(i)));
                }
                return parts.toString();
            default:
                return quoted(value.toString());
        }
    }

    private static String timestamp(LocalDateTime time, int digits) {
        String pattern = "uuuu-MM-dd HH:mm:ss" + (digits == 0 ? "" : "." + "S".repeat(digits));
        return time.format(DateTimeFormatter.ofPattern(pattern));
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
