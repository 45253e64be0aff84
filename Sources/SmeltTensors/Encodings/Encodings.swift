// The list of encodings. A new one is a file in this folder and a line here; tests, help and the published table
// walk the list.

package import SmeltStorage

/// The encodings Smelt knows.
package enum Encodings {
  /// All of them, in the order help shows them. FP8 blocks and groups of integers have any size; the usual one stands
  /// for them.
  package static let all: [any Encoding] =
    [
      Plain.f32, Plain.f16, Plain.bf16, Plain.f64,
      IntegerTable.i64, IntegerTable.i32, IntegerTable.i16, IntegerTable.i8,
    ] + IntegerTable.stored + [
      FP8(.e4m3, .tensor), FP8(.e4m3, .channel), FP8(.e4m3, .block128),
      FP8(.e5m2, .tensor), FP8(.e5m2, .channel), FP8(.e5m2, .block128),
      INT8.channel,
      FP4.mxfp4,
      NVFP4.multiplied, NVFP4.divided,
    ] + GroupedIntegers.usual + GGUFBlock.all

  /// The encoding of a stable name, or nil. Block and group sizes other than the usual are part of the name.
  package static func named(_ name: String) -> (any Encoding)? {
    all.first { $0.name == name } ?? FP8.named(name) ?? GroupedIntegers.named(name)
  }

  /// What `Formats/tables/encodings.json` holds: for each encoding the parts of two example weights, a matrix with
  /// ragged 128 × 128 blocks and three stacked matrices, and their bytes with the first dtype of each part. GGUF's
  /// blocks do not fit into 160 columns and have 256.
  package static func table() -> JSON {
    let entries = all.map { encoding in
      let columns = encoding is GGUFBlock ? 256 : 160
      let examples: [(String, Shape)] = [("matrix", [192, columns]), ("stacked", [3, 96, columns])]
      var members: [(String, JSON)] = [("name", JSON(encoding.name)), ("packed", JSON(encoding.isPacked))]
      for (key, shape) in examples { members.append((key, example(encoding, shape))) }
      return JSON(members: members)
    }
    return JSON(members: [("schema", "smelt.encodings/1"), ("encodings", JSON(entries))])
  }

  private static func example(_ encoding: any Encoding, _ shape: Shape) -> JSON {
    let layout = (try? encoding.layout(of: shape, name: "")) ?? []
    let parts = layout.map { part in
      JSON(members: [
        ("part", JSON(part.name.rawValue)),
        ("dtypes", JSON(part.dtypes.map { JSON($0.rawValue) })),
        ("shape", JSON(part.shape.dimensions.map { JSON($0) })),
      ])
    }
    return JSON(members: [
      ("shape", JSON(shape.dimensions.map { JSON($0) })),
      ("parts", JSON(parts)),
      ("bytes", JSON(encoding.byteCount(of: shape))),
    ])
  }
}
