// One safetensors file. It is mapped, its header is checked byte for byte before a tensor is handed out, and the
// tensors are lent from the mapping. Formats/safetensors.md is the law; its rule numbers stand beside each check.

package import SmeltStorage
internal import SmeltTensors

/// A safetensors file, mapped and checked. Only its header is read; a tensor's bytes are read when they are touched.
package final class SafetensorsFile: TensorSource {
  /// The path as the caller knows it.
  package let path: String
  /// The file's own notes, `__metadata__`, in file order.
  package let metadata: [(String, String)]
  /// The tensors in the order of their bytes.
  package let tensors: [TensorInfo]
  private let table: NameTable
  private let mapped: MappedFile

  /// Opens and checks a file. Symbolic links are followed: the caller named it.
  /// - Throws: `FormatError` with one of the codes `SRC_…` and `ST_…`; `RequestError` io when the system refuses.
  package convenience init(path: String) throws { try self.init(path: path, resolved: path) }

  /// The same with another limit of tensors, so that a test need not write a million of them.
  package convenience init(path: String, tensorLimit: Int) throws {
    try self.init(path: path, resolved: path, tensorLimit: tensorLimit)
  }

  /// Opens the file that `path` stands for once links are resolved; errors name `path`.
  init(path: String, resolved: String, tensorLimit: Int = SafetensorsHeader.tensorLimit) throws {
    do {
      mapped = try MappedFile(path: resolved)
    } catch var error as FormatError {
      error.file = path
      throw error
    }
    let bytes = mapped.bytes
    let header = try SafetensorsHeader(bytes, file: path, tensorLimit: tensorLimit)
    self.path = path
    metadata = header.metadata
    table = header.table
    tensors =
      TensorTable(
        TensorFile(path), bytes[header.dataStart..<bytes.count], dataStart: header.dataStart, header.rows
      ).tensors
    bytes[0..<header.dataStart].evict()
  }

  /// The tensor of a name, or nil.
  package func tensor(_ name: String) -> TensorInfo? {
    table.find(NameTable.hash(name)) { tensors[$0].name == name }.map { tensors[$0] }
  }

  /// This one file with its size.
  package var files: [(path: String, byteCount: Int)] { [(path, mapped.count)] }

  /// None: one file is right or refused.
  package var warnings: [FormatError] { [] }

  /// Throws `SRC_CHANGED` when the file's size or time is no longer what it was (rule 30).
  package func checkUnchanged() throws(FormatError) {
    do {
      try mapped.checkUnchanged()
    } catch {
      var known = error
      known.file = path
      throw known
    }
  }

  /// Device and inode, to tell whether two paths are one file.
  package var identity: FileIdentity { mapped.identity }
}

extension SafetensorsFile {
  /// Why a text cannot be a tensor's name, or nil when it can: 1 to 1,000 bytes of UTF-8 without control characters
  /// and without marks that change how text runs or hide in it (rule 20).
  package static func problem(withName name: String) -> String? {
    var name = name
    return name.withUTF8 { utf8 in
      if utf8.isEmpty { return "the name is empty" }
      if utf8.count > 1000 { return "the name has \(utf8.count) bytes, expected at most 1,000" }
      if utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return nil }
      for scalar in String(decoding: utf8, as: UTF8.self).unicodeScalars {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0:
          return "the name holds the control character U+\(String(scalar.value, radix: 16, uppercase: true))"
        case 0x061C, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x2069, 0xFEFF:
          return
            "the name holds the invisible character U+\(String(scalar.value, radix: 16, uppercase: true))"
        default: break
        }
      }
      return nil
    }
  }
}
