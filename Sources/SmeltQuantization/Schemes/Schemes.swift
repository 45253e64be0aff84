// The list of schemes. A new one is a file in this folder and a line here; tests, help and the published tables walk
// the list.

internal import SmeltStorage

/// The schemes Smelt knows.
package enum Schemes {
  /// All of them, in the order help shows them.
  package static let all: [any Scheme] =
    [
      Keep(),
      PlainFloat.bf16, PlainFloat.f16, PlainFloat.f32,
      ChannelScheme.fp8, TensorScheme.fp8, BlockScheme.fp8, BlockScheme.power, BlockScheme.mxfp8,
      ChannelScheme.int8, Int4Group.usual, Int4Zero.usual, Int8Coded.usual, NVFP4Scheme(), MXFP4Scheme(),
    ] + GGUFScheme.all

  /// The scheme of a name or synonym, in any case; what the word says of activations (`SchemeWord`) is left aside.
  /// - Throws: `RequestError` usage, listing what is known and the nearest name.
  package static func named(_ text: String) throws -> any Scheme { try SchemeWord(text).scheme }

  /// The scheme of a name or synonym that says nothing of activations.
  /// - Throws: `RequestError` usage, listing what is known and the nearest name.
  static func plain(_ text: String) throws -> any Scheme {
    let lower = text.lowercased()
    let found = all.first { scheme in
      ([scheme.name] + scheme.synonyms).contains { $0.lowercased() == lower }
    }
    for (prefix, make) in groups where found == nil && lower.hasPrefix(prefix) {
      guard let size = Int(lower.dropFirst(prefix.count)), Int4Group.sizes.contains(size) else {
        throw RequestError(
          .usage, "'\(text)' has no length of groups, expected 32, 64 or 128",
          help: "for example \(prefix)32")
      }
      return make(size)
    }
    if found == nil, let block = try BlockScheme.named(lower) { return block }
    if found == nil, lower.hasPrefix(Int8Coded.word + ":") {
      guard let bits = Double(lower.dropFirst(Int8Coded.word.count + 1)), Int8Coded.range.contains(bits)
      else {
        throw RequestError(
          .usage, "'\(text)' has no number of bits from 1.5 to 8", help: "for example int8-coded:5.25")
      }
      return Int8Coded(bits: bits)
    }
    if found == nil, Mixture.names.contains(lower) {
      throw RequestError(
        .usage, "'\(text)' is a mixture of types, not a scheme",
        help: "give it to --scheme; a rule or a recipe's default names one scheme, for example q4_k")
    }
    guard let found else {
      if let refusal = ForeignWord.refusal(text) { throw refusal }
      throw unknownName(
        text, kind: "scheme", among: all.map(\.name),
        or: all.flatMap(\.synonyms) + SchemeWord.known.map(\.word) + Mixture.names)
    }
    return found
  }

  /// Schemes by group that take the length of a group behind their name.
  private static let groups: [(prefix: String, make: @Sendable (Int) -> any Scheme)] = [
    ("int4-group:", { Int4Group(size: $0) }), ("int4-zero:", { Int4Zero(size: $0) }),
  ]
}
