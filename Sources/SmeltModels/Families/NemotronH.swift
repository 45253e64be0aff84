// Nemotron-H: Nemotron 3 Nano, Super and Ultra, 3.5 Lightning, and the dense models before them. Unusual: each layer is one mixer
// behind one norm, a Mamba-2 state space, attention that knows no positions, experts, or a dense layer; experts have no gate and the
// activation max(0, x)²; they may work in a latent width, to which one projection leads and from which another leads back, while
// router and shared expert read the stream. A block that drafts tokens stands under `mtp.`: an attention layer and a layer of
// experts together. Follows transformers' nemotron_h.

package import SmeltStorage
import SmeltTensors

/// The Nemotron-H architecture.
package struct NemotronH: DecoderFamily {
  /// `nemotron_h`.
  package static let modelTypes = ["nemotron_h"]

  /// The decoder.
  package let decoder: Decoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]
  /// The block under `mtp.`.
  package let drafts: DraftBlocks

  /// Reads config.json as the hub has it or as transformers 5 saves it.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(NemotronH.withUsualNames(config), file: file)
    let decoder = try NemotronH.decoder(config)
    self.decoder = decoder
    weights = decoder.nemotronTable
    drafts = try decoder.nemotronDrafts(config)
  }
}
