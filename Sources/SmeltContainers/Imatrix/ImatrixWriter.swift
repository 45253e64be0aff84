// Writing importance matrices as llama.cpp's tools read them. Formats/statistics.md, section 5.

package import SmeltStorage
internal import SmeltTensors

/// An importance matrix being written beside its target, in the GGUF form. Dropping it without `commit` leaves nothing
/// behind.
package struct ImatrixWriter: ~Copyable {
  /// What an entry will be.
  package struct Declaration: Sendable, Hashable {
    /// The tensor's name, at most 55 bytes.
    package let name: String
    /// Experts of a stack; 1 for another tensor.
    package let matrices: Int
    /// Input channels.
    package let columns: Int

    /// An entry to be written.
    package init(_ name: String, matrices: Int, columns: Int) {
      self.name = name
      self.matrices = matrices
      self.columns = columns
    }

    /// One matrix has no dimension of its own.
    var tensors: [GGUFPlan.Tensor] {
      let (sums, counts): (Shape, Shape) =
        matrices == 1 ? ([columns], [1]) : ([matrices, columns], [matrices, 1])
      return [
        .init("\(name).in_sum2", ImatrixWriter.f32, sums), .init("\(name).counts", ImatrixWriter.f32, counts),
      ]
    }
  }

  private static let f32 = GGUFTensorType.all[0]
  private var writer: GGUFWriter

  /// Starts a file.
  /// - Parameters:
  ///   - datasets: what the texts are called.
  ///   - chunkCount: chunks of text that ran.
  ///   - chunkSize: tokens of a chunk.
  ///   - tool: the program and its version, by which `--overwrite` knows the file; nil: not said.
  ///   - replacement: what at `path` the file may take the place of.
  /// - Throws: as `GGUFWriter` and `GGUFPlan`.
  package init(
    path: String, entries: [Declaration], datasets: [String], chunkCount: Int, chunkSize: Int,
    tool: String? = nil, replacing replacement: Replacement = .nothing
  ) throws {
    writer = try GGUFWriter(
      path: path, tensors: entries.flatMap(\.tensors),
      metadata: [
        ("general.type", .string("imatrix")),
        ("imatrix.datasets", .array(GGUFArray(strings: datasets))),
        ("imatrix.chunk_count", .u32(UInt32(clamping: chunkCount))),
        ("imatrix.chunk_size", .u32(UInt32(clamping: chunkSize))),
      ] + (tool.map { [(OutputKind.writerKey, .string($0))] } ?? []), replacing: replacement)
  }

  /// Writes the declared next entry: sums of squares [matrices, columns] and tokens [matrices].
  /// - Throws: `RequestError` io.
  package mutating func write(_ name: String, sums: [Float], counts: [Int]) throws {
    try writer.write("\(name).in_sum2", sums)
    try writer.write("\(name).counts", counts.map(Float.init))
  }

  /// Syncs and renames. Every declared entry must have been written.
  /// - Throws: `RequestError` io or cannot-create.
  package consuming func commit() throws { try writer.commit() }
}
