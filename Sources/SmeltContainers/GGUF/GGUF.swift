// One GGUF model: a file, or the parts it was split into. Files are mapped, headers are checked byte for byte before
// a tensor is handed out, and tensors are lent from the mapping. Formats/gguf.md is the law.

package import SmeltStorage
package import SmeltTensors

/// One tensor of a GGUF file.
package struct GGUFTensor: Sendable {
  /// The name in the file.
  package let name: String
  /// How its elements are stored.
  package let type: GGUFTensorType
  /// The dimensions, outermost first; the file has them the other way round.
  package let shape: Shape
  /// The path of the file that holds it.
  package let file: String
  /// The place of its first byte in that file.
  package let offset: Int
  /// Its blocks, row after row, lent from the mapping; touching them reads the file.
  package let bytes: Bytes
}

/// A GGUF model, mapped and checked. Only the headers are read; a tensor's bytes are read when they are touched.
package final class GGUFFile: Sendable {
  /// The path as the caller knows it: the one file, or the first part.
  package let path: String
  /// The format's version, 2 or 3; the first part's.
  package let version: Int
  /// The metadata of the file, or of the first part, in file order.
  package let metadata: [(key: String, value: GGUFValue)]
  /// The tensors in the order of their bytes, part after part.
  package let tensors: [GGUFTensor]
  private let keys: [String: Int]
  private let names: [String: Int]
  private let keyPlaces: [Int]
  private let mapped: [(path: String, file: MappedFile)]

  /// Opens and checks a file and, when it is the first of several parts, the others beside it. Symbolic links are
  /// followed for the file that the caller named; the other parts may be links as `ShardFolder` allows them.
  /// - Throws: `FormatError` with one of the codes `SRC_…`, `GG_…` and `IDX_…`; `RequestError` io when the system
  ///   refuses.
  package init(path: String) throws {
    let parts = try GGUFSplit.parts(GGUFPart(path: path, resolved: path))
    var names: [String: Int] = [:]
    var tensors: [GGUFTensor] = []
    for part in parts {
      let bytes = part.mapped.bytes
      for entry in part.header.entries {
        guard names.updateValue(tensors.count, forKey: entry.name) == nil else {
          throw FormatError(
            .ggDuplicate, file: part.path, subject: entry.name, offset: entry.place,
            "found the tensor in two parts, expected it once")
        }
        let start = part.header.dataStart + entry.begin
        tensors.append(
          GGUFTensor(
            name: entry.name, type: entry.type, shape: Shape(entry.shape), file: part.path, offset: start,
            bytes: bytes[start..<start + entry.byteCount]))
      }
    }
    self.path = path
    mapped = parts.map { ($0.path, $0.mapped) }
    keyPlaces = parts[0].header.keyPlaces
    self.names = names
    self.tensors = tensors
    version = parts[0].header.version
    metadata = parts[0].header.metadata
    keys = Dictionary(uniqueKeysWithValues: metadata.enumerated().map { ($0.element.key, $0.offset) })
  }

  /// Whether a regular file starts as a GGUF file does, whatever its name.
  package static func isGGUF(_ path: String) -> Bool {
    guard pathKind(path) == .file, let file = try? MappedFile(path: path) else { return false }
    return file.bytes[0..<min(file.count, 4)].array == Array("GGUF".utf8)
  }

  /// The tensor of a name, or nil.
  package func tensor(_ name: String) -> GGUFTensor? { names[name].map { tensors[$0] } }

  /// The metadata value of a key, or nil.
  package func value(_ key: String) -> GGUFValue? { keys[key].map { metadata[$0].value } }

  /// The place of a key in the first file, for messages; nil when there is no such key.
  package func place(ofKey key: String) -> Int? { keys[key].map { keyPlaces[$0] } }

  /// The files that hold the tensors, with their sizes.
  package var files: [(path: String, byteCount: Int)] { mapped.map { ($0.path, $0.file.count) } }

  /// Why a text cannot be a tensor's name, or nil: 1 to 63 bytes, nothing that cannot be seen. Rule 39.
  package static func problem(withName name: String) -> String? {
    if name.utf8.count > GGUFHeader.nameBytes {
      return "the name has \(name.utf8.count) bytes, expected at most \(GGUFHeader.nameBytes)"
    }
    return SafetensorsFile.problem(withName: name)
  }

  /// Throws `SRC_CHANGED` when a file's size or time is no longer what it was.
  package func checkUnchanged() throws(FormatError) {
    for part in mapped {
      do {
        try part.file.checkUnchanged()
      } catch {
        var known = error
        known.file = part.path
        throw known
      }
    }
  }
}

/// The tensors of a GGUF model as every container lists them. Blocks have the dtype `U8`, and the dimensions of the numbers
/// they stand for.
package struct GGUFTensors: TensorSource {
  private let model: GGUFFile
  /// The tensors in the order of their bytes, part after part.
  package let tensors: [TensorInfo]
  private let places: [String: Int]

  /// The tensors of a model.
  package init(_ model: GGUFFile) {
    self.model = model
    var place: TensorFile?
    tensors = model.tensors.map { tensor in
      let own = place?.path == tensor.file ? place : nil
      let file = own ?? TensorFile(tensor.file)
      place = file
      return TensorInfo(
        name: tensor.name, dtype: DType(rawValue: tensor.type.name) ?? .u8, shape: tensor.shape,
        in: file, offset: tensor.offset, bytes: tensor.bytes, type: tensor.type.name)
    }
    places = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($1.name, $0) })
  }

  /// The tensor of a name, or nil.
  package func tensor(_ name: String) -> TensorInfo? { places[name].map { tensors[$0] } }
  /// The files that hold them, with their sizes in bytes.
  package var files: [(path: String, byteCount: Int)] { model.files }
  /// None: what is not right is refused.
  package var warnings: [FormatError] { [] }
  /// Throws `SRC_CHANGED` when a file is no longer what it was when it was opened.
  package func checkUnchanged() throws(FormatError) { try model.checkUnchanged() }
}
