// The list of schemes. A new one is a file in this folder and a line here; tests, help and the published tables walk
// the list.

internal import SmeltStorage

/// The schemes Smelt knows.
public enum Schemes {
  /// All of them, in the order help shows them.
  public static let all: [any Scheme] =
    [
      Keep(),
      PlainFloat.bf16, PlainFloat.f16, PlainFloat.f32,
      ChannelScheme.fp8, ChannelScheme.int8, GroupScheme.int4,
    ] + GGUFScheme.all

  /// The scheme of a name or synonym, in any case.
  /// - Throws: `RequestError` usage, listing what is known and the nearest name.
  public static func named(_ text: String) throws -> any Scheme {
    let lower = text.lowercased()
    let found = all.first { scheme in
      ([scheme.name] + scheme.synonyms).contains { $0.lowercased() == lower }
    }
    guard let found else {
      throw unknownName(
        text, kind: "scheme", among: all.map(\.name), or: all.flatMap(\.synonyms) + Recipe.mixtureNames)
    }
    return found
  }
}
