// Bytes with an owner: a slice of a mapping or of a buffer that stays alive as long as the slice does, or of a file elsewhere whose
// bytes come when they are asked for.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A read-only run of bytes that keeps its owner (a mapped file, a buffer) alive. Copying it copies no bytes.
package struct Bytes: @unchecked Sendable {
  // SAFETY: `base` points into memory that `owner` frees in its `deinit`, and this value keeps `owner` alive; `count` bytes are
  // there, which whoever makes a `Bytes` vouches for. Nobody writes to them any more, so that any thread may read them. The bytes
  // of a mapped file are the exception that no program can exclude: another one may rewrite the file; `checkUnchanged` finds out,
  // and readers check what they use as an offset when they read it.
  /// What must live as long as the bytes. Owners never change the bytes after handing them out.
  private enum Owner {
    /// A mapped file or a buffer, whose bytes are always there.
    case memory(AnyObject)
    /// A file whose bytes are fetched when they are held.
    case pages(PagedBytes)
  }

  private let owner: Owner
  private let base: UnsafeRawPointer?
  /// The number of bytes.
  package let count: Int

  private init(_ owner: Owner, _ base: UnsafeRawPointer?, _ count: Int) {
    self.owner = owner
    self.base = base
    self.count = count
  }

  /// Bytes at `pointer`, valid and unchanging as long as `owner` lives.
  package init(owner: AnyObject, pointer: UnsafeRawPointer?, count: Int) {
    precondition(count >= 0 && (pointer != nil || count == 0))
    self.init(.memory(owner), pointer, count)
  }

  /// All bytes of a file that is fetched; none is fetched before it is asked for.
  package init(fetching file: any PagedFile) {
    self.init(.pages(PagedBytes(file, 0..<file.count)), file.base, file.count)
  }

  /// Bytes copied from an array.
  package init(_ array: [UInt8]) {
    let buffer = ByteBuffer(count: array.count)
    array.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    self.init(owner: buffer, pointer: UnsafeRawPointer(buffer.bytes.baseAddress), count: array.count)
  }

  /// Bytes that take over a buffer which nobody writes to any more.
  package init(_ buffer: ByteBuffer) {
    self.init(owner: buffer, pointer: UnsafeRawPointer(buffer.bytes.baseAddress), count: buffer.bytes.count)
  }

  /// Lends the bytes; the pointer is valid inside the closure only. Bytes that are fetched are waited for; where that fails the
  /// process ends with the error, as it does where a page of a mapped file cannot be read: `fetched` comes first where a caller
  /// can throw.
  package func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    if case .pages(let pages) = owner, count > 0, !pages.lends(place(in: pages)) {
      // SAFETY: held until the closure has returned.
      let range = place(in: pages)
      UnreadableBytes.unwrap { try pages.file.hold(range) }
      defer { pages.file.release(range) }
      return try body(UnsafeRawBufferPointer(start: base, count: count))
    }
    defer { withExtendedLifetime(owner) {} }
    return try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  /// The address of the first byte; valid while this value (or a copy) lives. For kernels.
  ///
  /// The compiler may end a local value's life behind its last use: keep it in a property, or use `withUnsafeBytes`. Bytes that are
  /// fetched stay in memory as long as this value or a copy.
  package var baseAddress: UnsafeRawPointer? {
    if case .pages(let pages) = owner, count > 0, !pages.lends(place(in: pages)) {
      UnreadableBytes.unwrap { try pages.hold() }
    }
    return base
  }

  /// A part of the bytes with the same owner. `range` must lie within `0..<count`. Of bytes that are fetched, a part is fetched
  /// without the rest.
  package subscript(range: Range<Int>) -> Bytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "range outside the bytes")
    let start = base.map { $0 + range.lowerBound }
    guard case .pages(let pages) = owner else { return Bytes(owner, start, range.count) }
    let part = Bytes(owner, start, range.count)
    // What is held already stays so for its parts.
    if pages.lends(part.place(in: pages)) { return part }
    return Bytes(.pages(PagedBytes(pages.file, part.place(in: pages))), start, range.count)
  }

  /// The place of these bytes in the file they are fetched from.
  private func place(in pages: PagedBytes) -> Range<Int> {
    guard let base, let first = pages.file.base else { return 0..<0 }
    return base - first..<base - first + count
  }

  /// The same bytes, all of them in memory for as long as the value or a copy lives. Others than fetched ones are returned as they
  /// are.
  /// - Throws: what kept them from being fetched.
  package func fetched() throws -> Bytes { try window(0..<count) }

  /// The same bytes, of which those in `range` are in memory for as long as the value or a copy lives; the others must not be
  /// touched through it. For large weights of which some rows are read. Others than fetched ones are returned as they are.
  /// - Throws: what kept them from being fetched.
  package func window(_ range: Range<Int>) throws -> Bytes {
    guard case .pages(let pages) = owner, !range.isEmpty else { return self }
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "range outside the bytes")
    let start = place(in: pages).lowerBound
    let held = PagedBytes(
      pages.file, start + range.lowerBound..<start + range.upperBound, whole: place(in: pages))
    try held.hold()
    return Bytes(.pages(held), base, count)
  }

  /// The same bytes with a hold of their own: what is done with an address of them does not keep others in memory.
  package var apart: Bytes {
    guard case .pages(let pages) = owner else { return self }
    return Bytes(.pages(PagedBytes(pages.file, place(in: pages))), base, count)
  }

  /// A copy as an array.
  package var array: [UInt8] { withUnsafeBytes { Array($0) } }

  /// The same bytes in memory of their own.
  package var copy: Bytes {
    let buffer = ByteBuffer(count: count)
    withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    return Bytes(buffer)
  }

  /// Whether the bytes lie in a file, mapped or fetched, and take no memory that could not be taken back.
  package var isMapped: Bool {
    switch owner {
    case .memory(let owner): owner is MappedFile
    case .pages: true
    }
  }

  /// Whether the bytes are fetched from elsewhere when they are asked for.
  package var isFetched: Bool { if case .pages = owner { true } else { false } }

  /// Tells the system that the bytes will be needed soon, so that it begins to read or to fetch them; bytes that are not of a
  /// file are left alone.
  package func willNeed() {
    switch owner {
    case .memory(let owner):
      guard let mapping = owner as? MappedFile, let base else { return }
      mapping.willNeed(base, count)
    case .pages(let pages): pages.file.willNeed(place(in: pages))
    }
  }

  /// Tells the system that the pages of a file are not needed for now. Reading them again is allowed and brings
  /// them back; bytes that are not of a file are left alone.
  package func evict() {
    switch owner {
    case .memory(let owner):
      guard let mapping = owner as? MappedFile, let base else { return }
      mapping.evict(base, count)
    case .pages(let pages): pages.file.evict(place(in: pages))
    }
  }
}

/// Memory of a fixed size, uninitialized at first, freed with the object.
package final class ByteBuffer: @unchecked Sendable {
  // SAFETY: the object owns `block` and frees it once, when nobody holds the object. Its maker fills `bytes` on one thread, or on
  // several in parts that do not overlap, before it becomes a `Bytes`; what is not filled is whatever the allocator left.
  /// The memory, aligned to 64 bytes.
  package let bytes: UnsafeMutableRawBufferPointer

  private let block: UnsafeMutableRawPointer

  /// Memory for `count` bytes.
  package init(count: Int) {
    // Rounded up within a plain block: a hole that an aligned block leaves is too small for the next one of its size, and
    // with anything that stays between them memory would grow without end.
    block = OutOfMemory.allocate(count + 63, alignment: 16)
    bytes = UnsafeMutableRawBufferPointer(start: block.alignedUp(toMultipleOf: 64), count: count)
  }

  deinit { free(block) }
}
