// Logs in once for each line on standard input (URL, user and password between tabs) with the JDBC driver; prints "ok" or why not.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;

public class JdbcLogin {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split("\t", -1);
            try (Connection connection = DriverManager.getConnection(parts[0], parts[1], parts[2]);
                 ResultSet rows = connection.createStatement().executeQuery("select 1")) {
                System.out.println(rows.next() && rows.getInt(1) == 1 ? "ok" : "another answer");
            } catch (Exception error) {
                System.out.println(error.getMessage().replace('\n', ' '));
            }
        }
    }
}
