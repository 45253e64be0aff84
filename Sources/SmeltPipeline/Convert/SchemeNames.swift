// Every name that `--scheme` takes, for lists, help and shells.

import SmeltQuantization
package import SmeltStorage

/// A name that `--scheme` takes, as its users spell it; the case does not matter, but for those that say so.
package struct SchemeName: Sendable {
  /// The spelling.
  package let name: String
  /// What it means.
  package let meaning: String
  /// The canonical name that it is another spelling of; nil for canonical ones.
  package let canonical: String?

  /// All of them: schemes, their synonyms and sizes, words of engines, mixtures of llama-quantize's and its short names, and the forms
  /// with `:keep-head`. Words with `@` and a number of bits behind `int8-coded:` are too many to list.
  package static let all: [SchemeName] = {
    var names: [SchemeName] = []
    func add(_ name: String, _ meaning: String, _ canonical: String? = nil) {
      guard !names.contains(where: { $0.name == name }) else { return }
      names.append(SchemeName(name: name, meaning: meaning, canonical: canonical))
    }
    for (word, meaning) in ConversionRequest.engineWords { add(word, meaning) }
    for scheme in Schemes.all {
      add(scheme.name, scheme.summary)
      for synonym in scheme.synonyms { add(synonym, "the same as \(scheme.name)", scheme.name) }
    }
    for (prefix, sizes) in [
      ("int4-group", Int4Group.sizes), ("int4-zero", Int4Group.sizes), (BlockScheme.word, BlockScheme.sizes),
      (BlockScheme.powerWord, BlockScheme.sizes),
    ] {
      for size in sizes { add("\(prefix):\(size)", "\(prefix) with \(size) instead of 128 numbers a side") }
    }
    for name in Recipe.mixtureNames { add(name, "llama-quantize's types, tensor by tensor") }
    for name in Recipe.llamaNames {
      add(name, "in a .gguf llama-quantize's \(Recipe.llamaName(name)), tensor by tensor")
    }
    for name in Set(Recipe.mixtureNames + Schemes.all.map(\.name).filter(Recipe.llamaNames.contains)).sorted()
    {
      add(name + Recipe.keepHead, "\(name) with embeddings and output head kept")
    }
    return names
  }()

  /// What there is to say of a result's name that is llama-quantize's for types not written here; nil for other names.
  package static func refusal(ofResult name: String) -> RequestError? {
    name.contains("/") ? nil : ForeignWord.ofLlamaCpp(name)
  }

  /// Whether a word is a name of a scheme.
  package static func isKnown(_ word: String) -> Bool {
    all.contains { $0.name.lowercased() == word.lowercased() } || (try? SchemeWord(word)) != nil
  }
}
