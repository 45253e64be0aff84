// One file of weights that a method chose: the bytes of their parts, then what says which they are.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The weights of one layer, in a file.
enum PreparedSection {
  /// A part of a weight, and where its bytes are.
  struct PendingPart {
    let name: PartName
    let dtype: DType
    let shape: Shape
    let offset: Int
    let count: Int
  }

  /// A weight of a section.
  struct Pending {
    let name: WeightName
    /// The name of its codes' tensor in the source.
    let source: String
    let shape: Shape
    let encoding: String
    let parts: [PendingPart]
    let file: String?
    let scheme: String?
    let note: String
    let inexactValues: Int
    let errors: WeightErrors.Entry

    /// The weight, its parts lent from a file's bytes.
    /// - Throws: refusals of parts that do not make a weight.
    func weight(in bytes: Bytes) throws -> PreparedWeight {
      guard let encoding = Encodings.named(encoding) else {
        preconditionFailure("'\(encoding)' is not an encoding")
      }
      let parts = parts.map {
        Part($0.name, dtype: $0.dtype, shape: $0.shape, bytes: bytes[$0.offset..<$0.offset + $0.count])
      }
      return PreparedWeight(
        weight: try Weight(name: source, shape: shape, encoding: encoding, parts: parts, file: file),
        scheme: scheme, note: note, inexactValues: inexactValues, errors: errors)
    }
  }

  /// What stands behind the parts.
  static func index(_ weights: [Pending]) -> JSON {
    JSON(
      weights.map { weight in
        [
          "name": JSON(weight.name.description), "source": JSON(weight.source), "shape": list(weight.shape),
          "encoding": JSON(weight.encoding), "file": JSON(weight.file), "scheme": JSON(weight.scheme),
          "note": JSON(weight.note), "inexact_values": JSON(weight.inexactValues),
          "rows": JSON(weight.errors.rows), "errors": JSON(weight.errors.errors.map { JSON(Int($0)) }),
          "parts": JSON(
            weight.parts.map { part in
              [
                "name": JSON(part.name.rawValue), "dtype": JSON(part.dtype.rawValue),
                "shape": list(part.shape), "offset": JSON(part.offset), "bytes": JSON(part.count),
              ]
            }),
        ]
      })
  }

  private static func list(_ shape: Shape) -> JSON { JSON(shape.dimensions.map { JSON($0) }) }

  /// Reads the section of a journal's entry.
  /// - Throws: `RESUME_MISMATCH` when the file is not what was written.
  static func read(_ entry: JSON, _ path: String, journal: String) throws -> [(WeightName, PreparedWeight)] {
    let refusal = FormatError(.resumeMismatch, file: journal, "holds an invalid entry")
    guard let count = entry["bytes"]?.integer else { throw refusal }
    if count == 0 { return [] }
    guard let index = entry["index"]?.integer, (0..<count).contains(index), let sum = entry["sum"]?.string
    else {
      throw refusal
    }
    guard pathKind(path) == .file, case let found = try FileSum.crc32c.contents(of: path),
      found.byteCount == count, hexadecimal(found.sum) == sum
    else {
      throw FormatError(.resumeMismatch, file: path, "is not what the run that was stopped wrote")
    }
    let bytes = try MappedFile(path: path).bytes
    let list = try JSON.scan(bytes[index..<count], limits: JSONLimits(values: 64 << 20)).array ?? []
    return try list.map { item in
      guard let weight = Pending(item, limit: index) else {
        throw FormatError(.resumeMismatch, file: path, offset: index, "does not say which weights it holds")
      }
      return (weight.name, try weight.weight(in: bytes))
    }
  }
}

extension PreparedSection.Pending {
  /// Nil for what is no weight of a section.
  /// - Parameter limit: the bytes of all parts.
  fileprivate init?(_ json: JSON, limit: Int) {
    func shape(_ json: JSON?) -> Shape? {
      let numbers = json?.array?.compactMap(\.integer)
      guard let numbers, numbers.count == json?.array?.count, Shape.checkedCount(numbers) != nil else {
        return nil
      }
      return Shape(numbers)
    }
    guard let name = json["name"]?.string, let source = json["source"]?.string,
      let own = shape(json["shape"]), let encoding = json["encoding"]?.string,
      Encodings.named(encoding) != nil,
      let note = json["note"]?.string, let inexact = json["inexact_values"]?.integer,
      let rows = json["rows"]?.integer, rows > 0, let errors = json["errors"]?.array,
      let list = json["parts"]?.array
    else { return nil }
    var parts: [PreparedSection.PendingPart] = []
    for part in list {
      guard let name = part["name"]?.string.flatMap({ PartName(rawValue: $0) }),
        let dtype = part["dtype"]?.string.flatMap({ DType(rawValue: $0) }), let shape = shape(part["shape"]),
        let offset = part["offset"]?.integer, let count = part["bytes"]?.integer, offset >= 0,
        dtype.byteCount(shape.count) == count, offset <= limit, count <= limit - offset
      else { return nil }
      parts.append(
        PreparedSection.PendingPart(name: name, dtype: dtype, shape: shape, offset: offset, count: count))
    }
    self.init(
      name: WeightName(parsing: name), source: source, shape: own, encoding: encoding, parts: parts,
      file: json["file"]?.string, scheme: json["scheme"]?.string, note: note, inexactValues: inexact,
      errors: WeightErrors.Entry(
        rows: rows, errors: errors.map { UInt16(truncatingIfNeeded: $0.integer ?? 0) }))
  }
}
