// What was done so far, in a file beside the result: lines that are added one after another and each carry a checksum, so
// that whatever stops the program, the lines that are whole are true.

internal import CKernels
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A journal being written. Its file stays until `remove`.
package struct Journal: ~Copyable {
  /// The file.
  package let path: String
  private let descriptor: Int32
  private let kept = KeptWork()

  /// Whether another run can resume from it: an entry was written, or was there before.
  package var hasEntries: Bool { kept.isThere }

  /// What a journal holds: the header that says of what it is, and the entries.
  package struct Content: Sendable {
    /// The first line.
    package let header: JSON
    /// The lines after it.
    package let entries: [JSON]
    /// Bytes of the lines that are whole.
    let byteCount: Int
  }

  /// Starts a journal; one of the same name goes.
  /// - Parameter entries: its first lines after the header. Where they cannot be written there is no journal.
  /// - Throws: `RequestError` cannot-create, also where something of the name is no journal; io.
  package init(creating path: String, header: JSON, _ entries: [JSON] = []) throws {
    self.path = path
    let refusal: RequestError?
    (descriptor, refusal) = Journal.start(path)
    if let refusal { throw refusal }
    ResultLock.note(path, journal: path)
    do {
      try put([header] + entries)
    } catch {
      unlink(path)
      throw error
    }
    if !entries.isEmpty { kept.note() }
  }

  private static func start(_ path: String) -> (descriptor: Int32, refusal: RequestError?) {
    do {
      try refuseForeign(path)
    } catch {
      return (-1, error as? RequestError ?? RequestError(.cannotCreate, "cannot read '\(path)'"))
    }
    unlink(path)
    ResultLock.announce(path)
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor < 0 else { return (descriptor, nil) }
    return (-1, RequestError(.cannotCreate, "cannot create '\(path)': \(Platform.lastError())"))
  }

  /// Refuses a file that has the name of a journal and is not one: it belongs to somebody else.
  /// - Throws: `RequestError` cannot-create.
  package static func refuseForeign(_ path: String) throws {
    guard FileStamp(path: path) != nil, try read(path) == nil else { return }
    throw RequestError(
      .cannotCreate, "'\(path)' exists and is not a Smelt journal",
      help: "move it away, or choose another result")
  }

  /// Continues a journal after its last whole line.
  /// - Throws: `RequestError` io.
  package init(resuming path: String, _ content: Content) throws {
    descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)
    self.path = path
    guard descriptor >= 0, ftruncate(descriptor, off_t(content.byteCount)) == 0 else {
      throw RequestError(.io, "cannot go on with '\(path)': \(Platform.lastError())")
    }
    if !content.entries.isEmpty { kept.note() }
    ResultLock.note(path, journal: path)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// The whole lines of a journal; nil when there is no journal, or not even its first line.
  package static func read(_ path: String) throws -> Content? {
    guard pathKind(path) == .file, !isSymbolicLink(path) else { return nil }
    let bytes = try MappedFile(path: path).bytes.array
    var values: [JSON] = []
    var start = 0
    while let end = bytes[start...].firstIndex(of: 0x0A) {
      guard let value = value(bytes[start..<end]) else { break }
      values.append(value)
      start = end + 1
    }
    guard let header = values.first else { return nil }
    return Content(header: header, entries: Array(values.dropFirst()), byteCount: start)
  }

  /// The value of a line, or nil when the line is not what was written.
  private static func value(_ line: ArraySlice<UInt8>) -> JSON? {
    guard line.count > 17 else { return nil }
    let text = Array(line.dropFirst(17))
    guard Array(line.prefix(17)) == checksum(text) else { return nil }
    return try? JSON.scan(Bytes(text), limits: JSONLimits(values: 1 << 20))
  }

  private static func checksum(_ text: [UInt8]) -> [UInt8] {
    Array((hexadecimal(text.withUnsafeBytes { xxh64($0) }) + " ").utf8)
  }

  /// Adds lines and waits until they are on the disk. What the system takes of them in part is taken away again.
  /// - Throws: `RequestError` io.
  package func append(_ entries: [JSON]) throws {
    let end = lseek(descriptor, 0, SEEK_END)
    do {
      try put(entries)
    } catch {
      if end >= 0 { ftruncate(descriptor, end) }
      throw error
    }
    if !entries.isEmpty { kept.note() }
  }

  private func put(_ entries: [JSON]) throws {
    var lines: [UInt8] = []
    for entry in entries {
      let text = Array(entry.text().utf8)
      lines += Journal.checksum(text) + text + [0x0A]
    }
    var done = 0
    while done < lines.count {
      // SAFETY: `done` is below `count`, so there is an address, and no more than the rest is written.
      let step = lines.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, lines.count - done) }
      if step < 0 && errno == EINTR { continue }
      guard step > 0 else {
        throw RequestError(.io, "cannot write '\(path)': \(Platform.lastError())")
      }
      done += step
    }
    guard Platform.syncData(descriptor) == 0 else {
      throw RequestError(.io, "cannot flush '\(path)': \(Platform.lastError())")
    }
  }
}

/// Whether a journal holds work that another run can resume from; what ends the process without an error of Swift's asks too.
private final class KeptWork: Sendable {
  private let state = Atomic<Bool>(false)

  var isThere: Bool { state.load(ordering: .relaxed) }

  func note() {
    if !state.exchange(true, ordering: .relaxed) { sk_fault_count_journals(1) }
  }

  deinit { if isThere { sk_fault_count_journals(-1) } }
}
