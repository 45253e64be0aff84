// What every container of named tensors offers: a list of tensors and the bytes of each, lent, not copied.

package import SmeltStorage
package import SmeltTensors

/// The file that tensors lie in, shared by all of them.
package final class TensorFile: Sendable {
  /// Its path.
  package let path: String
  /// The last component of that.
  package let name: String

  /// The file of a path.
  package init(_ path: String) {
    self.path = path
    name = fileName(path)
  }
}

/// One tensor a file names: dtype, dimensions, and where its bytes are. Copies share one object: lists of a hundred thousand are
/// passed around.
package struct TensorInfo: Sendable {
  private final class Fields: Sendable {
    let name: String
    let dtype: DType
    let shape: Shape
    let place: TensorFile
    let offset: Int
    let bytes: Bytes
    let type: String

    init(
      _ name: String, _ dtype: DType, _ shape: Shape, _ place: TensorFile, _ offset: Int, _ bytes: Bytes,
      _ type: String
    ) {
      (self.name, self.dtype, self.shape, self.place) = (name, dtype, shape, place)
      (self.offset, self.bytes, self.type) = (offset, bytes, type)
    }
  }

  private let fields: Fields

  /// The name in the file.
  package var name: String { fields.name }
  /// The element type.
  package var dtype: DType { fields.dtype }
  /// The dimensions, outermost first.
  package var shape: Shape { fields.shape }
  /// The path of the file that holds it.
  package var file: String { fields.place.path }
  /// The last component of that path.
  package var fileName: String { fields.place.name }
  /// The place of its first byte in that file.
  package var offset: Int { fields.offset }
  /// Its bytes, lent from the mapping; touching them reads the file.
  package var bytes: Bytes { fields.bytes }
  /// How many these are.
  package var byteCount: Int { fields.bytes.count }
  /// The element type as the container spells it: `BF16`, `Q4_K`.
  package var type: String { fields.type }

  /// A tensor of a file. `type` is the dtype's name unless given: blocks of GGUF are bytes to a dtype.
  package init(
    name: String, dtype: DType, shape: Shape, in place: TensorFile, offset: Int, bytes: Bytes,
    type: String? = nil
  ) {
    fields = Fields(name, dtype, shape, place, offset, bytes, type ?? dtype.rawValue)
  }

  /// The same of a file by its path.
  package init(
    name: String, dtype: DType, shape: Shape, file: String, offset: Int, bytes: Bytes, type: String? = nil
  ) {
    self.init(
      name: name, dtype: dtype, shape: shape, in: TensorFile(file), offset: offset, bytes: bytes, type: type)
  }
}

/// Named tensors, wherever they lie: one file, or several shards with an index.
package protocol TensorSource: Sendable {
  /// The tensors in file order, shard after shard.
  var tensors: [TensorInfo] { get }
  /// The tensor of a name, or nil.
  func tensor(_ name: String) -> TensorInfo?
  /// Whether the name of some tensor may end in a text: false saves the questions for each name with that end.
  func mayHold(ending: String) -> Bool
  /// The files that hold them, with their sizes in bytes.
  var files: [(path: String, byteCount: Int)] { get }
  /// Things worth saying that are no reason to refuse.
  var warnings: [FormatError] { get }
  /// Throws `SRC_CHANGED` when a file is no longer what it was when it was opened.
  func checkUnchanged() throws(FormatError)
}

extension TensorSource {
  /// It may.
  package func mayHold(ending: String) -> Bool { true }
}
