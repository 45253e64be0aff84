// What a user's word for a scheme says: how weights are stored, and whether engines round activations before they multiply.
// Formats/recipe.md, section 12.

internal import SmeltStorage

/// What engines do to activations before a product with a quantized weight, as a result's configuration tells them.
package enum EngineActivations: String, Sendable, Hashable, CaseIterable {
  /// Nothing: 16 bits and more.
  case kept = "a16"
  /// Whole numbers to ±127, a scale for each token, found as the engine runs.
  case int8 = "a8"
  /// E4M3, a scale for each token, found as the engine runs.
  case fp8 = "afp8"
  /// E4M3, a scale for each token and 128 columns, found as the engine runs.
  case fp8Groups = "afp8-group"
}

/// A scheme, and what is to become of activations where that is not what goes with the scheme.
///
/// Spelled `SCHEME@ACTIVATIONS`, for example `int8-channel@a16`, or as other tools spell it: `W8A16`.
package struct SchemeWord: Sendable {
  /// How weights are stored.
  package let scheme: any Scheme
  /// What engines are told of activations; nil: what goes with the scheme.
  package let activations: EngineActivations?

  /// A scheme with the activations that go with it.
  package init(_ scheme: any Scheme, _ activations: EngineActivations? = nil) {
    self.scheme = scheme
    self.activations = activations
  }

  /// The words of other tools that say more than a scheme. Source: compressed-tensors 0.20.1, `quantization/quant_scheme.py`,
  /// PRESET_SCHEMES.
  package static let known: [(word: String, scheme: any Scheme, activations: EngineActivations)] = [
    ("W8A16", ChannelScheme.int8, .kept), ("W4A8", Int4Group.usual, .int8), ("W4AFP8", Int4Group.usual, .fp8),
    ("MXFP8A16", BlockScheme.mxfp8, .kept), ("MXFP4XFP8", MXFP4Scheme(), .fp8Groups),
  ]

  /// Reads a word, in any case.
  /// - Throws: `RequestError` usage, listing what is known and the nearest name.
  package init(_ text: String) throws {
    if let known = SchemeWord.known.first(where: { $0.word.lowercased() == text.lowercased() }) {
      self.init(known.scheme, known.activations)
      return
    }
    guard let sign = text.lastIndex(of: "@") else {
      self.init(try Schemes.plain(text))
      return
    }
    let name = text[text.index(after: sign)...].lowercased()
    guard let activations = EngineActivations(rawValue: name) else {
      throw unknownName(
        name, kind: "kind of activations", among: EngineActivations.allCases.map(\.rawValue))
    }
    self.init(try Schemes.plain(String(text[..<sign])), activations)
  }

  /// The canonical spelling.
  package var name: String { scheme.name + (activations.map { "@\($0.rawValue)" } ?? "") }
}
