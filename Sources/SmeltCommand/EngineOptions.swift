// What a directory has for the engines that load it.

import ArgumentParser
import SmeltPipeline

/// Options of directories of safetensors that engines load.
struct EngineOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "How a directory keeps quantized weights: \(EngineWords.layoutNames.joined(separator: ", ")).",
      valueName: "layout"), completion: .list(EngineWords.layoutNames))
  var layout: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What engines do to the activations of FP8 and NVFP4 weights in a directory: static (scales from calibration), dynamic or none. FP8 and NVFP4 as scheme names mean static, those that end in A16 none.",
      valueName: "what"), completion: .list(EngineWords.activationNames))
  var activations: String?

  @Option(
    name: .customLong("kv-cache"),
    help: ArgumentHelp(
      "Scales for cached keys and values in a directory: fp8 (from calibration) or none.", valueName: "type"),
    completion: .list(EngineWords.cacheNames))
  var cache: String?

  var words: EngineWords { EngineWords(layout: layout, activations: activations, cache: cache) }
}
