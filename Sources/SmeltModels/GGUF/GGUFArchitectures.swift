// The list of architectures that GGUF files that Smelt writes can have.

import SmeltStorage
import SmeltTensors

/// The architectures.
package enum GGUFArchitectures {
  /// All of them.
  package static let all: [any GGUFArchitecture.Type] = [
    GGUFDeepSeek2.self, GGUFDeepSeek32.self, GGUFDeepSeek4.self, GGUFLlama.self, GGUFQwen2MoE.self,
    GGUFQwen3MoE.self, GGUFOLMoE.self, GGUFGPTOSS.self, GGUFGLM4MoE.self, GGUFMiniMaxM2.self,
    GGUFMiniMaxM3.self,
    GGUFQwen2.self, GGUFQwen3.self, GGUFQwen3VLMoE.self, GGUFQwen3Next.self, GGUFQwen35MoE.self,
    GGUFQwen35.self,
    GGUFGLMDSA.self, GGUFMistral4.self, GGUFHYV3.self,
    GGUFGemma4.self,
    GGUFNemotronH.self, GGUFNemotronHMoE.self,
  ]

  /// The architecture of a family.
  package static func of(_ family: any ModelFamily) -> (any GGUFArchitecture.Type)? {
    family.hasForwardPass ? all.first { $0.stands(for: family) } : nil
  }

  /// Whether some architecture has this name.
  package static func knows(_ name: String) -> Bool { all.contains { $0.name == name } }

  /// The architecture that a file names.
  /// - Throws: `CFG_VALUE` without `general.architecture`; `RequestError` unsupported, listing what is known.
  package static func of(_ metadata: Metadata) throws -> any GGUFArchitecture.Type {
    guard let name = try metadata.string("general.architecture") else {
      throw metadata.error("general.architecture", "is missing")
    }
    guard let found = all.first(where: { $0.name == name }) else {
      throw RequestError(
        .unsupported, "architecture '\(name)' in '\(metadata.file)' is not supported",
        help: "supported are: \(all.map { $0.name }.joined(separator: ", "))")
    }
    return found
  }
}
