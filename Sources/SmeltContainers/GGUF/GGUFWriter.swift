// Writing GGUF: all tensors and keys are known first (`GGUFPlan`), so that every header is final before the first byte
// of data and nothing is held in memory. The same plan and bytes always give the same files.

package import SmeltStorage

/// A GGUF model being written beside its target, in one file or several. Dropping it without `commit` leaves nothing
/// behind.
package struct GGUFWriter: ~Copyable {
  /// A file of a model. A class, since arrays hold no writers.
  private final class File {
    var writer: FileWriter?
    init(_ writer: consuming FileWriter) { self.writer = consume writer }
  }

  private let plan: GGUFPlan
  private let paths: [String]
  private let replacement: Replacement
  /// The files started so far; all but the last are finished and closed.
  private var files: [File] = []
  /// The next tensor of the last file, and the bytes it still needs.
  private var current = 0
  private var left = 0

  /// Starts a model of one file.
  /// - Throws: as `init(path:plan:replacing:)` and `GGUFPlan`.
  package init(
    path: String, tensors: [GGUFPlan.Tensor], metadata: [(key: String, value: GGUFValue)],
    replacing replacement: Replacement = .nothing
  ) throws {
    try self.init(path: path, plan: GGUFPlan(tensors: tensors, metadata: metadata), replacing: replacement)
  }

  /// Starts a model; its files are `plan.paths(path)`.
  /// - Throws: `RequestError` cannot-create when one of the files exists and is not to be replaced or the folder is not
  ///   writable; io when the disk is full.
  package init(path: String, plan: GGUFPlan, replacing replacement: Replacement = .nothing) throws {
    self.plan = plan
    self.replacement = replacement
    paths = plan.paths(path)
    for path in paths { try requireCreatable(path, replacing: replacement) }
    try start()
  }

  /// Appends the next bytes of the tensor `name`, which must be the planned next one: whole, or part after part.
  /// - Throws: `RequestError` io with the system's reason (disk full, quota, input/output error); cannot-create when a
  ///   further file cannot be started.
  package mutating func write(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
    try advance()
    let tensors = plan.parts[files.count - 1].tensors
    precondition(
      current < tensors.count && tensors[current].name == name, "'\(name)' is not the next planned tensor")
    // SAFETY: the writer copies what it is lent.
    precondition(bytes.count <= left, "'\(name)' has \(left) bytes left, not \(bytes.count)")
    let file = files[files.count - 1]
    try file.writer?.write(bytes)
    left -= bytes.count
    if left == 0 { try file.writer?.pad(to: plan.alignment) }
  }

  /// Appends the next bytes of the tensor `name`.
  package mutating func write(_ name: String, _ bytes: Bytes) throws {
    try bytes.withUnsafeBytes { try write(name, $0) }
  }

  /// Appends the next elements of the tensor `name`, in this machine's byte order, which must be little-endian.
  package mutating func write<T: BitwiseCopyable>(_ name: String, _ elements: [T]) throws {
    try elements.withUnsafeBytes { try write(name, $0) }
  }

  /// Syncs and renames, the first file last: a model of several files cannot be opened before all are there. Where the
  /// system refuses one, none stays, and what would have been replaced is back in its place. Every planned tensor must have been written whole.
  /// - Throws: `RequestError` io or cannot-create when the system refuses.
  package consuming func commit() throws {
    try advance()
    let tensors = plan.parts[files.count - 1].tensors
    precondition(
      files.count == plan.parts.count && current == tensors.count,
      "'\(current < tensors.count ? tensors[current].name : "")' is not written whole: \(left) bytes are left"
    )
    if files.count > 1 {
      try files[files.count - 1].writer?.finish()
      for path in paths { try requireCreatable(path, replacing: replacement) }
    }
    // Of several files, those that are replaced step aside, the first one first: it must not open the new ones.
    var aside: [AsideFile] = []
    var renamed: [String] = []
    do {
      if files.count > 1, case .only = replacement {
        for path in paths { aside += [try AsideFile(path)].compactMap { $0 } }
      }
      for (file, path) in zip(files, paths).reversed() {
        try file.writer.take()?.commit()
        renamed.append(path)
      }
    } catch {
      for path in renamed { removeFile(path) }
      for file in aside.reversed() { file.putBack() }
      throw error
    }
    for file in aside { file.remove() }
  }

  /// Moves on to the next tensor when the current one is whole, and to the next file when its last is.
  private mutating func advance() throws {
    let tensors = plan.parts[files.count - 1].tensors
    if left == 0, current < tensors.count {
      current += 1
      left = current < tensors.count ? tensors[current].byteCount : 0
    }
    while current == plan.parts[files.count - 1].tensors.count, files.count < plan.parts.count {
      try files[files.count - 1].writer?.finish()
      try start()
    }
  }

  private mutating func start() throws {
    let part = plan.parts[files.count]
    var writer = try FileWriter(path: paths[files.count], replacing: replacement)
    try writer.write(part.header)
    files.append(File(writer))
    current = 0
    left = part.tensors.first?.byteCount ?? 0
  }
}
