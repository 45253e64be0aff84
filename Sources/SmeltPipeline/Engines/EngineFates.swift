// What an engine's loader does with every tensor: loads it, makes a fused matrix of it, leaves it, casts it.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// What becomes of one tensor.
package struct EngineFate: Sendable {
  /// What happens to it.
  package enum Action: String, Sendable, CaseIterable {
    /// It becomes a module's parameter as it is.
    case loads
    /// It becomes a part of a fused matrix, or of a layer's experts.
    case fuses
    /// It becomes a parameter of another type.
    case casts
    /// Nothing asks for it.
    case ignores
  }

  /// Its name in the files.
  package let tensor: String
  package let action: Action
  /// The module that takes it, by the engine's name, or why nothing does.
  package let target: String
  /// Bytes in the file.
  package let bytes: Int

  var json: JSON {
    [
      "tensor": JSON(tensor), "action": JSON(action.rawValue), "target": JSON(target), "bytes": JSON(bytes),
    ]
  }
}

extension EngineView {
  /// What becomes of each of the model's tensors, in the files' order.
  func fates() -> [EngineFate] {
    var targets: [String: (action: EngineFate.Action, target: String)] = [:]
    var fused: [Int: String] = [:]
    for matrix in matrices where !matrix.isExpert && EngineNames.fuses(matrix.name, engine) {
      for place in matrix.parts { fused[place] = matrix.name }
    }
    let stacksExperts = engine == .vllm || engine == .sglang || engine == .transformers || engine == .mlx
    let dtype = self.dtype
    for (place, weight) in weights.enumerated() {
      for tensor in weight.tensors {
        if weight.isExpert, stacksExperts {
          targets[tensor] = (.fuses, expertsModule([place]) ?? weight.module)
        } else if let matrix = fused[place] {
          targets[tensor] = (.fuses, matrix)
        } else if let plain = weight.encoding as? Plain, let dtype, plain.dtype != dtype, isCast(weight) {
          targets[tensor] = (.casts, dtype.rawValue)
        } else {
          targets[tensor] = (.loads, name(of: weight))
        }
      }
    }
    for weight in drafts {
      for tensor in weight.tensors {
        targets[tensor] = (.ignores, "drafts tokens: loaded where drafts are asked for")
      }
    }
    return model.source.tensors.map { tensor in
      if let found = targets[tensor.name] {
        return EngineFate(
          tensor: tensor.name, action: found.action, target: found.target, bytes: tensor.byteCount)
      }
      if let found = companion(tensor.name) {
        return EngineFate(tensor: tensor.name, action: .loads, target: found, bytes: tensor.byteCount)
      }
      return EngineFate(
        tensor: tensor.name, action: .ignores, target: "no module of the text model", bytes: tensor.byteCount)
    }
  }

  /// The type of the model's numbers in engines that make all plain parameters of it; nil where they keep the files' types.
  private var dtype: DType? {
    guard engine != .llamaCpp, engine != .ollama, engine != .mlx else { return nil }
    let spelled = (text["dtype"] ?? text["torch_dtype"] ?? config["dtype"] ?? config["torch_dtype"])?.string
    return switch spelled?.replacing("torch.", with: "") {
    case "bfloat16"?: .bf16
    case "float16"?: .f16
    case "float32"?: .f32
    default: nil
    }
  }

  /// Whether the parameter is of the model's type: selection biases, sinks and what steers hyper-connections stay in float32.
  private func isCast(_ weight: EngineWeight) -> Bool {
    ![.selectionBias, .sink, .hyperConnection, .hashTable].contains(weight.spec.role)
  }

  /// The module of a scale of activations or of the cache that the engine reads beside codes.
  private func companion(_ tensor: String) -> String? {
    guard quantization.method != nil, engine == .vllm || engine == .sglang,
      let dot = tensor.lastIndex(of: ".")
    else { return nil }
    let word = tensor[tensor.index(after: dot)...]
    guard ["input_scale", "input_global_scale", "k_scale", "v_scale"].contains(word) else { return nil }
    return String(tensor[..<dot])
  }
}
