// Writing safetensors: all tensors are declared first, so that the header is final before the first byte of data and
// nothing is held in memory. The same declarations and bytes always give the same file.

package import SmeltStorage
package import SmeltTensors

/// A safetensors file being written beside its target. Dropping it without `commit` leaves nothing behind.
package struct SafetensorsWriter: ~Copyable {
  /// What a tensor will be.
  package struct Declaration: Sendable, Hashable {
    /// The name; see `SafetensorsFile.problem(withName:)`.
    package let name: String
    /// The element type.
    package let dtype: DType
    /// The dimensions, at most 8; together with the dtype a whole number of bytes.
    package let shape: Shape

    /// A tensor to be written.
    package init(_ name: String, _ dtype: DType, _ shape: Shape) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
    }

    /// The bytes it takes.
    package var byteCount: Int {
      guard let count = Shape.checkedCount(shape.dimensions).flatMap({ dtype.byteCount($0) }) else {
        preconditionFailure("'\(name)': \(dtype) \(shape) is not a whole number of bytes")
      }
      return count
    }
  }

  private var writer: FileWriter
  private let tensors: [Declaration]
  private var current = 0
  private var left = 0

  /// Starts a file: writes the header, `__metadata__` first if there is any, the tensors in declared order.
  ///
  /// Names must be valid and different, shapes whole numbers of bytes. Declare wide elements before narrow ones when
  /// alignment matters to a reader: the data starts at a multiple of 8, and tensors follow each other without gaps.
  /// - Parameters:
  ///   - replacement: what at `path` the file may take the place of.
  ///   - isResumable: whether the file beside the target has a name that another run can find.
  ///   - sum: how the bytes are summed on their way; `commit` returns the sum.
  /// - Throws: `RequestError` cannot-create when `path` exists and is not to be replaced or its folder is not writable;
  ///   unsupported when the header would exceed 100,000,000 bytes; io when the disk is full.
  package init(
    path: String, tensors: [Declaration], metadata: [(String, String)] = [],
    replacing replacement: Replacement = .nothing, isResumable: Bool = false, sum: FileSum = .none
  ) throws {
    writer = try SafetensorsWriter.start(
      path, SafetensorsWriter.header(tensors, metadata), replacement, isResumable, sum)
    self.tensors = tensors
    left = tensors.first?.byteCount ?? 0
  }

  /// Continues a file that an interrupted run left, behind one of its tensors.
  /// - Parameters:
  ///   - position: where the file ends so far: where one of its tensors ends.
  ///   - sum: how the bytes are summed, and what those so far must sum to.
  /// - Throws: `RESUME_MISMATCH` when the bytes are not those that were written; `RequestError` cannot-create, io.
  package init(
    resuming path: String, tensors: [Declaration], metadata: [(String, String)] = [], at position: Int,
    sum: (kind: FileSum, expected: UInt64)
  ) throws {
    writer = try FileWriter(
      resuming: path, at: position, replacing: .nothing, sum: sum.kind, expecting: sum.expected)
    self.tensors = tensors
    var end = SafetensorsWriter.header(tensors, metadata).count
    while current < tensors.count, end + tensors[current].byteCount <= position {
      end += tensors[current].byteCount
      current += 1
    }
    precondition(end == position, "a file is continued behind a whole tensor")
    left = current < tensors.count ? tensors[current].byteCount : 0
  }

  /// Brings what was written to the disk.
  /// - Returns: where the file ends, and the sum of its bytes.
  /// - Throws: `RequestError` io.
  package func secured() throws -> (position: Int, sum: UInt64) {
    try writer.sync()
    return (writer.position, writer.sum ?? 0)
  }

  /// From here on, what was written stays beside the target when the writer is dropped.
  package mutating func keep() { writer.keepPartial() }

  private static func start(
    _ path: String, _ header: [UInt8], _ replacement: Replacement, _ isResumable: Bool, _ sum: FileSum
  ) throws -> FileWriter {
    guard header.count - 8 <= SafetensorsHeader.byteLimit else {
      throw RequestError(
        .unsupported,
        "the header of '\(path)' would take \(header.count - 8) bytes, the format allows 100000000",
        help: "split the tensors over several files")
    }
    var writer = try FileWriter(path: path, replacing: replacement, isResumable: isResumable, sum: sum)
    try writer.write(header)
    return writer
  }

  /// The size of the whole file with these tensors and notes.
  package static func byteCount(tensors: [Declaration], metadata: [(String, String)] = []) -> Int {
    tensors.reduce(header(tensors, metadata).count) { $0 + $1.byteCount }
  }

  /// Appends the next bytes of the tensor `name`, which must be the declared next one: whole, or part after part.
  /// - Throws: `RequestError` io with the system's reason (disk full, quota, input/output error).
  package mutating func write(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
    // A finished tensor, and one without elements that nobody wrote, give way to the next.
    while left == 0, current < tensors.count, tensors[current].name != name { advance() }
    precondition(
      current < tensors.count && tensors[current].name == name, "'\(name)' is not the next declared tensor")
    // SAFETY: the writer copies what it is lent.
    precondition(bytes.count <= left, "'\(name)' has \(left) bytes left, not \(bytes.count)")
    try writer.write(bytes)
    left -= bytes.count
  }

  /// Appends the next bytes of the tensor `name`.
  package mutating func write(_ name: String, _ bytes: Bytes) throws {
    try bytes.withUnsafeBytes { try write(name, $0) }
  }

  /// Appends the next elements of the tensor `name`, in this machine's byte order, which must be little-endian.
  package mutating func write<T: BitwiseCopyable>(_ name: String, _ elements: [T]) throws {
    try elements.withUnsafeBytes { try write(name, $0) }
  }

  /// Syncs and renames. Every declared tensor must have been written whole.
  /// - Throws: `RequestError` io or cannot-create when the system refuses.
  @discardableResult
  package consuming func commit() throws -> WrittenFile {
    while left == 0, current < tensors.count { advance() }
    precondition(
      current == tensors.count,
      "'\(current < tensors.count ? tensors[current].name : "")' is not written whole: \(left) bytes are left"
    )
    return try writer.commit()
  }

  private mutating func advance() {
    current += 1
    left = current < tensors.count ? tensors[current].byteCount : 0
  }

  /// The length and the header, padded with spaces so that the data starts at a multiple of 8.
  package static func header(_ tensors: [Declaration], _ metadata: [(String, String)]) -> [UInt8] {
    var members: [(String, JSON)] = []
    if !metadata.isEmpty {
      members.append(("__metadata__", JSON(members: metadata.map { ($0.0, JSON($0.1)) })))
    }
    var position = 0
    for tensor in tensors {
      if let problem = SafetensorsFile.problem(withName: tensor.name) { preconditionFailure(problem) }
      precondition(tensor.name != "__metadata__", "the name is taken by the format")
      precondition(
        tensor.shape.rank <= SafetensorsHeader.rankLimit, "'\(tensor.name)' has too many dimensions")
      let (end, overflow) = position.addingReportingOverflow(tensor.byteCount)
      precondition(!overflow && end <= SafetensorsHeader.numberLimit, "'\(tensor.name)' ends beyond 2^53")
      members.append(
        (
          tensor.name,
          JSON(members: [
            ("dtype", JSON(tensor.dtype.rawValue)),
            ("shape", JSON(tensor.shape.dimensions.map { JSON($0) })),
            ("data_offsets", JSON([JSON(position), JSON(end)])),
          ])
        ))
      position = end
    }
    var text = Array(JSON(members: members).text().utf8)
    text += [UInt8](repeating: 0x20, count: (8 - text.count % 8) % 8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
  }
}
