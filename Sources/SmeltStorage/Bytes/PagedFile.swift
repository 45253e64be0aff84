// Files that are not on this machine: their bytes have addresses from the start, and come when somebody holds them.

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file whose bytes are fetched when they are held. All of it has addresses; only what is held may be touched.
package protocol PagedFile: AnyObject, Sendable {
  /// The address of its first byte; nil of an empty file.
  var base: UnsafeRawPointer? { get }
  /// Its size in bytes.
  var count: Int { get }
  /// What tells it from other files.
  var identity: FileIdentity { get }
  /// Waits until the bytes of a range are in memory, and keeps them there until as many calls of `release` with the same range.
  /// - Throws: what kept them from being fetched; nothing is held then.
  func hold(_ range: Range<Int>) throws
  /// Ends one hold.
  func release(_ range: Range<Int>)
  /// Begins to fetch a range, as far as there is room; returns at once.
  func willNeed(_ range: Range<Int>)
  /// Gives the memory of a range back, as far as nobody holds it.
  func evict(_ range: Range<Int>)
  /// Throws `SRC_CHANGED` when the file is known to be no longer what it was.
  func checkUnchanged() throws(FormatError)
}

/// A range of a file that is fetched, held from the first time that its address is asked for until the object goes.
final class PagedBytes: Sendable {
  let file: any PagedFile
  /// What is held once something is.
  private let range: Range<Int>
  /// What may be asked for then: more than `range` for a window, whose maker touches nothing else.
  private let lent: Range<Int>
  private let isHeld = Atomic<Bool>(false)
  private let turn = Mutex(())

  /// Nothing is held yet.
  init(_ file: any PagedFile, _ range: Range<Int>, whole: Range<Int>? = nil) {
    self.file = file
    self.range = range
    lent = whole ?? range
  }

  deinit { if isHeld.load(ordering: .acquiring) { file.release(range) } }

  /// Whether bytes of a range of the file may be touched while this object lives.
  func lends(_ asked: Range<Int>) -> Bool {
    isHeld.load(ordering: .acquiring) && asked.lowerBound >= lent.lowerBound
      && asked.upperBound <= lent.upperBound
  }

  /// Holds the range from now on.
  func hold() throws {
    try turn.withLock { _ in
      guard !isHeld.load(ordering: .relaxed) else { return }
      try file.hold(range)
      isHeld.store(true, ordering: .releasing)
    }
  }
}

/// The end of a process that touches bytes which cannot be fetched, where no error can be thrown.
enum UnreadableBytes {
  private static let ending = Mutex(())

  /// Does it; where it fails, ends the process with the error's own lines and status.
  static func unwrap(_ body: () throws -> Void) {
    do { try body() } catch { end(error) }
  }

  private static func end(_ error: any Error) -> Never {
    let (text, status): (String, Int32) =
      switch error {
      case let error as FormatError: (error.description, error.exitStatus)
      case let error as RequestError: (error.description, error.exitStatus)
      default: ("error[io]: \(error)", 74)
      }
    // One thread says it; the lock is never given back.
    return ending.withLock { _ in
      let bytes = Array((MappedFaults.lineClearing + text + "\n").utf8)
      _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
      _exit(status)
    }
  }
}
