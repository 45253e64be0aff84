// Which experts the calibration text reached.

package import SmeltStorage

/// How well a text covers the experts, layer by layer.
package struct Coverage: Sendable, Equatable {
  /// One layer with experts.
  package struct Layer: Sendable, Equatable {
    /// The layer.
    package let layer: Int
    /// Routed experts.
    package let experts: Int
    /// Experts that no token went to, ascending.
    package let neverReached: [Int]
    /// The fewest tokens an expert got.
    package let fewest: Int
    /// The first expert that got so few.
    package let fewestExpert: Int
    /// The most tokens an expert got.
    package let most: Int
    /// The first expert that got so many.
    package let mostExpert: Int
    /// Tokens of all experts; a token counts once for each expert it went to.
    package let total: Int

    /// The summary of a layer's counts; there is at least one expert.
    package init(_ tokens: ExpertTokens) {
      precondition(!tokens.counts.isEmpty, "layer \(tokens.layer) has no experts")
      layer = tokens.layer
      experts = tokens.counts.count
      neverReached = tokens.counts.indices.filter { tokens.counts[$0] == 0 }
      fewest = tokens.counts.min() ?? 0
      fewestExpert = tokens.counts.firstIndex(of: fewest) ?? 0
      most = tokens.counts.max() ?? 0
      mostExpert = tokens.counts.firstIndex(of: most) ?? 0
      total = tokens.counts.reduce(0) { sum, count in
        let (value, overflow) = sum.addingReportingOverflow(count)  // a file may say anything
        return overflow ? Int.max : value
      }
    }
  }

  /// The layers with experts, in the order given.
  package let layers: [Layer]

  /// The coverage of some layers; layers without experts are left out.
  package init(_ layers: [ExpertTokens]) {
    self.layers = layers.filter { !$0.counts.isEmpty }.map(Layer.init)
  }

  /// Experts of all layers that no token went to.
  package var neverReached: Int { layers.reduce(0) { $0 + $1.neverReached.count } }
  /// Experts of all layers.
  package var experts: Int { layers.reduce(0) { $0 + $1.experts } }

  /// A table in fixed-width text, a line a layer and a line of totals; ends with a line break.
  package var text: String {
    let head = ["layer", "experts", "never reached", "fewest tokens", "mean", "most tokens"]
    let body = layers.map { layer in
      [
        String(layer.layer), String(layer.experts), String(layer.neverReached.count),
        "\(layer.fewest) (expert \(layer.fewestExpert))", String(layer.total / layer.experts),
        "\(layer.most) (expert \(layer.mostExpert))",
      ]
    }
    let widths = head.indices.map { column in ([head] + body).map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      zip(cells, widths).map { String(repeating: " ", count: $1 - $0.count) + $0 }.joined(separator: "  ")
        + "\n"
    }
    let unreached =
      neverReached == 0
      ? "every expert was reached"
      : "\(neverReached) of \(experts) experts were never reached"
    return line(head) + body.map(line).joined() + unreached + "\n"
  }

  /// The same as JSON: `never_reached`, `experts` and a list of `layers`.
  package var json: JSON {
    JSON(members: [
      ("experts", JSON(experts)), ("never_reached", JSON(neverReached)),
      (
        "layers",
        JSON(
          layers.map { layer in
            JSON(members: [
              ("layer", JSON(layer.layer)), ("experts", JSON(layer.experts)),
              ("never_reached", JSON(layer.neverReached.map { JSON($0) })),
              ("fewest", JSON(layer.fewest)), ("fewest_expert", JSON(layer.fewestExpert)),
              ("most", JSON(layer.most)), ("most_expert", JSON(layer.mostExpert)),
              ("total", JSON(layer.total)),
            ])
          })
      ),
    ])
  }
}
