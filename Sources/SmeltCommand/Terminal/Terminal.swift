// What a person sees: lines on stderr and stdout, within the width of the terminal, in colour where one is looked at.

import SmeltPipeline
import SmeltStorage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writing to stderr.
enum Terminal {
  private static let hasBar = Atomic<Bool>(false)
  private static let quiet = Atomic<Bool>(false)

  /// From now on nothing but errors is written.
  static func silence() { quiet.store(true, ordering: .relaxed) }

  /// Lines about what refuses nothing, unless `--quiet` is given.
  static func note(_ text: String) {
    if !quiet.load(ordering: .relaxed) { line(text) }
  }

  /// A warning, unless `--quiet` is given; once, however many parts of the work have it.
  static func warn(_ text: String) {
    guard warned.withLock({ $0.insert(text).inserted }) else { return }
    note("warning: \(printable(text))")
  }

  private static let warned = Mutex<Set<String>>([])

  /// Lines, whatever was asked for; a bar that stands there is cleared first.
  static func line(_ text: String) {
    clearBar()
    write(Style.painted(fitted(text, to: width(of: 2)), 2) + "\n")
  }

  /// Draws a bar in place of the last one.
  static func drawBar(_ text: String) {
    hasBar.store(true, ordering: .relaxed)
    write("\r\u{1B}[K" + text)
  }

  /// Removes the bar, if there is one.
  static func clearBar() {
    if hasBar.exchange(false, ordering: .relaxed) { write("\r\u{1B}[K") }
  }

  private static func write(_ text: String) {
    _ = Array(text.utf8).withUnsafeBytes { writeAll(2, $0) }  // there is nowhere left to complain
  }

  /// Whether a descriptor is a terminal whose cursor can be moved and whose text can have colours.
  static func isCapable(_ descriptor: Int32) -> Bool {
    let kind = getenv("TERM").map { String(cString: $0) } ?? ""
    return isatty(descriptor) == 1 && !kind.isEmpty && kind != "dumb"
  }

  /// The width of a terminal in columns: the value of COLUMNS if it is set, else what the terminal reports, else 80; nil if the
  /// descriptor is not a terminal.
  static func width(of descriptor: Int32) -> Int? {
    guard isatty(descriptor) == 1 else { return nil }
    if let asked = getenv("COLUMNS").flatMap({ Int(String(cString: $0)) }), asked > 0 {
      return max(20, asked)
    }
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return max(20, Int(size.ws_col))
  }
}

/// Writing to stdout. Not `print`, which keeps a full disk to itself.
enum Output {
  /// A text for people, within the width of the terminal.
  /// - Throws: `RequestError` io when stdout takes no more. A reader that has read enough (`| head`) is no error.
  static func report(_ text: String) throws {
    try line(Style.painted(fitted(printableLines(text), to: Terminal.width(of: 1)), 1))
  }

  /// A text as it is, and a line break.
  static func line(_ text: String) throws { try bytes(Array((text + "\n").utf8)) }

  /// A JSON value, indented, and a line break; a large one in pieces.
  static func json(_ json: JSON) throws {
    try json.forEachPiece(indented: true) { try text($0) }
    try text("\n")
  }

  /// A piece of text as it is.
  static func text(_ text: String) throws { try bytes(Array(text.utf8)) }

  /// Bytes as they are.
  static func bytes(_ bytes: [UInt8]) throws {
    Terminal.clearBar()
    let error = bytes.withUnsafeBytes { writeAll(1, $0) }
    if error != 0 && error != EPIPE {
      throw RequestError(.io, "cannot write to stdout: \(String(cString: strerror(error)))")
    }
  }

  /// Takes the places of standard streams that the caller closed, so that no file that Smelt opens gets their numbers and is
  /// written into. Writing to such a place stays an error.
  static func reserveDescriptors() {
    for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
  }
}
