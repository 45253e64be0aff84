// What is fetched, kept in a cache of the hub's layout: a part of a file beside the blobs until all of it is there, then a blob with its
// name and a link to it, as other tools look for them. Formats/hub.md, section 6.

import SmeltStorage

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that is fetched once, and read from the disk from then on; used from any thread.
final class KeptFile: RangeSource {
  private let source: any RangeSource
  private let entry: RemoteEntry
  private let cache: HubCache
  private let commit: String
  private let descriptor: Int32
  /// The file under its temporary name, and the note of what is there.
  private let partial: String
  private let note: String
  private let state: Mutex<State>

  private struct State {
    /// A bit for each cell that is there.
    var cells: [UInt64]
    var missing: Int
    /// Bytes since the note was written.
    var unsaved = 0
  }

  /// Bytes after which what is there is noted down.
  private static let saveBytes = 64 << 20
  /// What is asked for begins and ends at these, but for the end of the file: else no cell that two requests share would count.
  private static let cellBytes = FetchedFile.cellBytes

  /// A file of a listing, as far as it is kept already; nil where another process keeps it, or where the hub names no content.
  /// - Throws: `RequestError` cannot-create.
  init?(_ entry: RemoteEntry, in cache: HubCache, commit: String) throws {
    guard let etag = entry.etag, entry.count > 0 else { return nil }
    (source, self.entry, self.cache, self.commit) = (entry.source, entry, cache, commit)
    let blobs = joinPath(cache.folder, "blobs")
    try HubCache.makeFolders(blobs)
    partial = joinPath(blobs, etag + ".smelt-partial")
    note = joinPath(blobs, etag + ".smelt-cells")
    let whole = joinPath(blobs, etag)
    let count = (entry.count + KeptFile.cellBytes - 1) / KeptFile.cellBytes
    let words = (count + 63) / 64
    let isWhole = pathKind(whole) == .file && fileByteCount(whole) == entry.count
    descriptor = SmeltHub.open(
      isWhole ? whole : partial, isWhole ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else {
      throw RequestError(.cannotCreate, "cannot keep '\(entry.path)' in '\(blobs)': \(Platform.lastError())")
    }
    if isWhole {
      state = Mutex(State(cells: Array(repeating: .max, count: words), missing: 0))
      try cache.link(entry, etag, commit)
      return
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      return nil
    }
    var cells = [UInt64](repeating: 0, count: words)
    // A note counts for the file that it was written beside.
    if let bytes = try? readSmallFile(note, limit: words * 8, code: .netListing), bytes.count == words * 8,
      fileByteCount(partial) == entry.count
    {
      bytes.withUnsafeBytes { raw in
        for word in 0..<words {
          cells[word] = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self))
        }
      }
    }
    guard ftruncate(descriptor, off_t(entry.count)) == 0 else {
      close(descriptor)
      throw RequestError(.cannotCreate, "cannot keep '\(entry.path)' in '\(blobs)': \(Platform.lastError())")
    }
    let there = (0..<count).count { cells[$0 / 64] & 1 << UInt64($0 % 64) != 0 }
    state = Mutex(State(cells: cells, missing: count - there))
  }

  deinit { close(descriptor) }

  func checkUnchanged() throws(FormatError) { try source.checkUnchanged() }

  func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
    let cells = range.lowerBound / KeptFile.cellBytes..<(range.upperBound - 1) / KeptFile.cellBytes + 1
    let isHere = state.withLock { state in
      cells.allSatisfy { state.cells[$0 / 64] & 1 << UInt64($0 % 64) != 0 }
    }
    if isHere { return try read(range, into: memory) }
    try source.fetch(range, into: memory)
    guard
      Platform.write(
        descriptor, UnsafeRawBufferPointer(start: memory, count: range.count), at: range.lowerBound)
    else {
      throw RequestError(
        .io, "cannot keep '\(entry.path)' in '\(cache.folder)': \(Platform.lastError())",
        help: "free some space there, or leave --keep away")
    }
    // Only cells that came whole count.
    let whole =
      (range.lowerBound + KeptFile.cellBytes - 1)
      / KeptFile.cellBytes..<max(
        (range.lowerBound + KeptFile.cellBytes - 1) / KeptFile.cellBytes,
        range.upperBound == entry.count ? cells.upperBound : range.upperBound / KeptFile.cellBytes)
    let isComplete = state.withLock { state in
      let before = state.missing
      for cell in whole where state.cells[cell / 64] & 1 << UInt64(cell % 64) == 0 {
        state.cells[cell / 64] |= 1 << UInt64(cell % 64)
        state.missing -= 1
      }
      state.unsaved += range.count
      if state.missing > 0, state.unsaved >= KeptFile.saveBytes {
        state.unsaved = 0
        save(state.cells)
      }
      return before > 0 && state.missing == 0
    }
    if isComplete { try finish() }
  }

  private func read(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
    // SAFETY: the caller has room for the range.
    guard
      Platform.read(
        descriptor, UnsafeMutableRawBufferPointer(start: memory, count: range.count), at: range.lowerBound)
    else {
      throw RequestError(.io, "cannot read '\(entry.path)' in '\(cache.folder)': \(Platform.lastError())")
    }
  }

  /// Notes down what is on the disk; a note that cannot be written costs a second fetch and no more.
  private func save(_ cells: [UInt64]) {
    fsync(descriptor)
    let bytes = cells.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) } }
    try? writeFile(note, bytes, overwrite: true)
  }

  /// All of it is there: it is held against its hash, and gets its name.
  private func finish() throws {
    guard let etag = entry.etag else { return }
    if let expected = entry.sha256 {
      var hash = SHA256()
      var buffer = [UInt8](repeating: 0, count: 4 << 20)
      for start in stride(from: 0, to: entry.count, by: buffer.count) {
        let range = start..<min(entry.count, start + buffer.count)
        try buffer.withUnsafeMutableBytes { bytes in
          guard let base = bytes.baseAddress else { return }
          try read(range, into: base)
          hash.update(UnsafeRawBufferPointer(start: base, count: range.count))
        }
      }
      let found = hash.hex()
      guard found == expected else {
        removeFile(partial)
        removeFile(note)
        throw FormatError(.netHash, file: entry.path, "found the SHA-256 \(found), expected \(expected)")
      }
    }
    fsync(descriptor)
    let blob = joinPath(joinPath(cache.folder, "blobs"), etag)
    guard rename(partial, blob) == 0 else {
      throw RequestError(.cannotCreate, "cannot name '\(blob)': \(Platform.lastError())")
    }
    removeFile(note)
    try cache.link(entry, etag, commit)
  }
}

extension HubCache {
  /// Makes a folder and those that it lies in.
  static func makeFolders(_ path: String) throws {
    guard pathKind(path) != .directory else { return }
    try makeFolders(parentFolder(path))
    guard mkdir(path, 0o777) == 0 || pathKind(path) == .directory else {
      throw RequestError(.cannotCreate, "cannot make the folder '\(path)': \(Platform.lastError())")
    }
  }

  /// Writes which commit a revision stood for.
  func note(_ revision: String, _ commit: String) throws {
    guard !HubHash.isOne(revision, 40) else { return }
    let path = joinPath(joinPath(folder, "refs"), revision)
    try HubCache.makeFolders(parentFolder(path))
    try writeFile(path, Array(commit.utf8), overwrite: true)
  }

  /// Gives a blob its name in the snapshot of a commit.
  func link(_ entry: RemoteEntry, _ etag: String, _ commit: String) throws {
    let path = joinPath(joinPath(joinPath(folder, "snapshots"), commit), entry.path)
    try HubCache.makeFolders(parentFolder(path))
    let depth = entry.path.split(separator: "/").count + 1
    let target = String(repeating: "../", count: depth) + "blobs/\(etag)"
    guard symlink(target, path) == 0 || errno == EEXIST else {
      throw RequestError(.cannotCreate, "cannot make the link '\(path)': \(Platform.lastError())")
    }
  }
}

/// `open` by its name: the class has an initializer that reads better with it.
private func open(_ path: String, _ flags: Int32) -> Int32 {
  #if canImport(Glibc)
    Glibc.open(path, flags, 0o666)
  #elseif canImport(Musl)
    Musl.open(path, flags, 0o666)
  #else
    Darwin.open(path, flags, 0o666)
  #endif
}
