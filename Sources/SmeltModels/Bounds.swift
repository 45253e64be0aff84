// How large the numbers of a configuration may be before they become sizes. A few bytes of a file must not ask for gigabytes of
// memory: what is made from a configuration alone is a table with a row for each weight, so that layers and experts are bounded
// here; every other size is compared with a tensor's own before anything is made of it.

import SmeltStorage

/// The largest numbers, above those of every published model.
enum Bounds {
  /// Layers of a model.
  static let layers = 4096
  /// Routed experts of a layer.
  static let experts = 65536
  /// Routed experts of all layers together: five times those of the largest published model.
  static let allExperts = 1 << 17
  /// Routed experts of all layers together that a source of any size may have, one whose shards are not there included: what is
  /// missing is the better message.
  static let expertsOfAnySource = 1 << 15
  /// Bytes that an expert takes at the very least: three matrices of some rows and columns.
  static let expertBytes = 64

  /// Refuses more experts than a source can hold.
  /// - Parameter byteCount: the size of the source.
  /// - Throws: `CFG_VALUE`.
  static func check(_ config: ConfigReader, byteCount: Int) throws(FormatError) {
    let key = ["num_experts", "num_local_experts", "n_routed_experts"].first { config.value($0) != nil }
    guard let key, let experts = config.value(key)?.integer, experts > 0,
      let layers = config.value("num_hidden_layers")?.integer, layers > 0
    else { return }
    let (all, overflow) = experts.multipliedReportingOverflow(by: layers)
    let limit = min(allExperts, max(expertsOfAnySource, byteCount / expertBytes))
    guard overflow || all > limit, experts <= Bounds.experts, layers <= Bounds.layers else { return }
    throw config.error(
      key,
      "found \(experts) in each of \(layers) layers, expected at most \(limit) in all in \(byteCount) bytes")
  }
}
