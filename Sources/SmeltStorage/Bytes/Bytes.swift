// Bytes with an owner: a slice of a mapping or of a buffer that stays alive as long as the slice does.

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
  private let owner: AnyObject
  private let base: UnsafeRawPointer?
  /// The number of bytes.
  package let count: Int

  /// Bytes at `pointer`, valid and unchanging as long as `owner` lives.
  package init(owner: AnyObject, pointer: UnsafeRawPointer?, count: Int) {
    precondition(count >= 0 && (pointer != nil || count == 0))
    self.owner = owner
    self.base = pointer
    self.count = count
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

  /// Lends the bytes; the pointer is valid inside the closure only.
  package func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(owner) {} }
    return try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  /// The address of the first byte; valid while this value (or a copy) lives. For kernels.
  ///
  /// The compiler may end a local value's life behind its last use: keep it in a property, or use `withUnsafeBytes`.
  package var baseAddress: UnsafeRawPointer? { base }

  /// A part of the bytes with the same owner. `range` must lie within `0..<count`.
  package subscript(range: Range<Int>) -> Bytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "range outside the bytes")
    return Bytes(owner: owner, pointer: base.map { $0 + range.lowerBound }, count: range.count)
  }

  /// A copy as an array.
  package var array: [UInt8] { withUnsafeBytes { Array($0) } }

  /// The same bytes in memory of their own.
  package var copy: Bytes {
    let buffer = ByteBuffer(count: count)
    withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    return Bytes(buffer)
  }

  /// Whether the bytes lie in a mapped file, and take no memory that the system could not take back.
  package var isMapped: Bool { owner is MappedFile }

  /// Tells the system that the bytes will be needed soon, so that it begins to read them; bytes that are not mapped from a
  /// file are left alone.
  package func willNeed() {
    guard let mapping = owner as? MappedFile, let base else { return }
    mapping.willNeed(base, count)
  }

  /// Tells the system that the pages of a mapping are not needed for now. Reading them again is allowed and brings
  /// them back; bytes that are not mapped from a file are left alone.
  package func evict() {
    guard let mapping = owner as? MappedFile, let base else { return }
    mapping.evict(base, count)
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
