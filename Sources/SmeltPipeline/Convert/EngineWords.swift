// What a user says of the engines that a directory is for: the layout, and scales beside the weights.

import SmeltStorage

/// The words for a directory that engines load.
package struct EngineWords: Sendable {
  var layout: String?
  var activations: String?
  var cache: String?

  /// The words; nil where the user says nothing.
  /// - Parameters:
  ///   - layout: `auto`, `compressed-tensors` or `modelopt`.
  ///   - activations: `static`, `dynamic` or `none`.
  ///   - cache: `fp8` or `none`.
  package init(layout: String? = nil, activations: String? = nil, cache: String? = nil) {
    (self.layout, self.activations, self.cache) = (layout, activations, cache)
  }

  /// The layouts' names, for help.
  package static let layoutNames = (["auto"] + CompressedLayout.Package.allCases.map(\.rawValue))
  /// What becomes of activations, for help.
  package static let activationNames = CompressedLayout.Activations.allCases.map(\.rawValue)
  /// How keys and values are cached, for help.
  package static let cacheNames = ["fp8", "none"]

  var isEmpty: Bool { layout == nil && activations == nil && cache == nil }

  /// What they mean beside the scheme's own word.
  /// - Throws: `RequestError` usage.
  func layout(schemeWord: String?) throws -> CompressedLayout {
    func find(_ word: String?, _ kind: String, among names: [String]) throws -> String? {
      guard let word = word?.lowercased() else { return nil }
      guard names.contains(word) else { throw unknownName(word, kind: kind, among: names) }
      return word
    }
    return CompressedLayout(
      schemeWord: schemeWord,
      package: try find(layout, "layout", among: EngineWords.layoutNames).flatMap {
        CompressedLayout.Package(rawValue: $0)
      },
      activations: try find(activations, "treatment of activations", among: EngineWords.activationNames)
        .flatMap { CompressedLayout.Activations(rawValue: $0) },
      cachesFP8: try find(cache, "cache of keys and values", among: EngineWords.cacheNames) == "fp8")
  }
}
