import java.io.BufferedInputStream;
import java.io.FileInputStream;
import java.io.InputStream;
import java.util.Enumeration;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;

/**
 * Reads archives as ZipInputStream (front to back) or as ZipFile (by the directory) and prints what it found. Where
 * there are several, a line "archive" with the path comes before the files of each.
 */
public class ReadZip {
    public static void main(String[] arguments) throws Exception {
        for (int number = 1; number < arguments.length; number++) {
            if (arguments.length > 2) {
                print("archive " + arguments[number]);
            }
            if (arguments[0].equals("stream")) {
                readStream(arguments[number]);
            } else {
                readFile(arguments[number]);
            }
        }
        System.out.flush();
    }

    static void readStream(String path) throws Exception {
        try (ZipInputStream zip = new ZipInputStream(new BufferedInputStream(new FileInputStream(path), 1 << 20))) {
            for (ZipEntry entry; (entry = zip.getNextEntry()) != null; ) {
                print(entry.getName(), zip);
            }
        }
    }

    static void readFile(String path) throws Exception {
        try (ZipFile zip = new ZipFile(path)) {
            for (Enumeration<? extends ZipEntry> all = zip.entries(); all.hasMoreElements(); ) {
                ZipEntry entry = all.nextElement();
                try (InputStream input = zip.getInputStream(entry)) {
                    print(entry.getName(), input);
                }
            }
        }
    }

    static void print(String name, InputStream input) throws Exception {
        CRC32 crc32 = new CRC32();
        byte[] buffer = new byte[1 << 16];
        long size = 0;
        for (int count; (count = input.read(buffer)) > 0; size += count) {
            crc32.update(buffer, 0, count);
        }
        print(size + " " + Long.toHexString(crc32.getValue()) + " " + name);
    }

    static void print(String text) throws Exception {
        byte[] line = (text + "\n").getBytes("UTF-8");
        System.out.write(line, 0, line.length);
        System.out.flush();
    }
}
