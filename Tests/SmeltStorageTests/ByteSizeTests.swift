// Sizes as people write them: MB is 10⁶, MiB 2²⁰, in and out alike.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct ByteSizeTests {
  @Test(arguments: [
    ("1", 1), ("1234", 1234), ("1B", 1), ("0010 b", 10), ("1K", 1000), ("1k", 1000), ("1kB", 1000),
    ("1KiB", 1024), ("1Ki", 1024), ("1ki", 1024), ("10MB", 10_000_000), ("10M", 10_000_000),
    ("10mb", 10_000_000), ("10MiB", 10 << 20), ("10mib", 10 << 20), ("10 MiB", 10 << 20),
    ("  10   MB ", 10_000_000), ("140G", 140_000_000_000), ("140GB", 140_000_000_000), ("2GiB", 2 << 30),
    ("1.5G", 1_500_000_000), ("1.5GiB", 3 << 29), ("0.5k", 500), ("1.2345678KB", 1234), ("1.0", 1),
    ("3T", 3_000_000_000_000), ("3TiB", 3 << 40), ("2PB", 2_000_000_000_000_000), ("2PiB", 2 << 50),
    ("0.000000000001TB", 1), ("0.9999999999999999999KB", 999),
  ])
  func reads(text: String, bytes: Int) throws { #expect(try ByteSize(parsing: text).bytes == bytes) }

  @Test(arguments: [
    "", " ", "G", "MB", "-1", "-5G", "+5G", "1.", ".5G", "1,5G", "1e3", "0x10", "5GG", "5 G B", "5BiB",
    "5Mi B",
    "5E", "nan", "inf", "0", "0GB", "0.0001kB", "1.5", "1.5B", "99999999999999999999", "9999999999T",
    "2000P", "5MB5", "五GB", "5ＭＢ", "5\tMB", "5MB\n", "5\u{0}",
  ])
  func refusesAndSaysWhatIsAccepted(text: String) throws {
    let error = try #require(throws: ByteSize.Refusal.self) { try ByteSize(parsing: text) }
    #expect(error.description.contains(ByteSize.accepted), "\(error)")
    #expect(!error.description.contains("\u{0}") && !error.description.contains("\n"))
  }

  @Test func whatIsPrintedReadsBack() throws {
    for (bytes, text) in [
      (2 << 30, "2GiB"), (256 << 20, "256MiB"), (5_000_000_000, "5GB"), (1000, "1kB"), (1024, "1KiB"),
      (1234, "1234B"), (1, "1B"), (3 << 29, "1536MiB"), (1_500_000, "1500kB"), (1 << 40, "1TiB"),
      (0, "0B"),
    ] { #expect(ByteSize(bytes).description == text) }
    var generator = Generator(seed: 3)
    for _ in 0..<200 {
      let bytes = Int.random(in: 1..<1 << 50, using: &generator)
      #expect(try ByteSize(parsing: ByteSize(bytes).description).bytes == bytes)
    }
  }

  /// Reports round to three digits in the same units, so that a printed size may be typed again.
  @Test func reportsUseTheSameUnits() throws {
    for (bytes, text) in [
      (999, "999 B"), (1000, "1.00 kB"), (10_000_000, "10.0 MB"), (140_000_000_000, "140 GB"),
      (999_499, "999 kB"), (999_500, "1.00 MB"), (9_994_000, "9.99 MB"), (9_995_000, "10.0 MB"),
      (99_940_000, "99.9 MB"), (99_950_000, "100 MB"), (2_000_000_000_000_000, "2000 TB"),
    ] {
      #expect(byteText(bytes) == text)
      let read = try ByteSize(parsing: byteText(bytes)).bytes
      #expect(abs(read - bytes) * 200 <= bytes, "\(text): \(read)")
    }
  }
}

@Suite struct UTF8CheckTests {
  private func first(_ bytes: [UInt8]) -> Int? { bytes.withUnsafeBytes { UTF8Check.firstInvalid($0) } }

  @Test(arguments: [
    "", "abc", "abcdefgh", "é", "日本語 text, long enough for a word", "😀", "\u{7FF}\u{800}\u{FFFF}\u{10FFFF}",
  ])
  func textIsText(text: String) { #expect(first(Array(text.utf8)) == nil) }

  @Test(
    arguments: [
      ([0x80], 0), ([0x41, 0xE9, 0x20], 1), ([0xC0, 0x80], 0), ([0xC1, 0xBF], 0), ([0xC3], 0),
      ([0xE0, 0x9F, 0xBF], 0), ([0xED, 0xA0, 0x80], 0), ([0xE2, 0x82], 0), ([0xE2, 0x82, 0x41], 0),
      ([0xF0, 0x8F, 0xBF, 0xBF], 0), ([0xF4, 0x90, 0x80, 0x80], 0), ([0xF5, 0x80, 0x80, 0x80], 0),
      ([0xFF, 0xFE], 0),
      (Array("abcdefghijk".utf8) + [0xFF], 11), (Array("abcdefghé".utf8) + [0xA9], 10),
    ] as [([UInt8], Int)])
  func otherBytesAreNot(bytes: [UInt8], place: Int) { #expect(first(bytes) == place) }

  /// Swift's own decoder is the slow twin.
  @Test func agreesWithSwift() {
    var generator = Generator(seed: 5)
    let pool: [UInt8] = [
      0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4,
      0xF5,
    ]
    for _ in 0..<20000 {
      let count = Int.random(in: 0..<6, using: &generator)
      let bytes = (0..<count).map { _ in pool[Int.random(in: 0..<pool.count, using: &generator)] }
      #expect((first(bytes) == nil) == (String(validating: bytes, as: UTF8.self) != nil), "\(bytes)")
    }
  }
}
