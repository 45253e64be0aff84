// generate, as a user meets it: where it stops, and where it does not.

import Testing

@Suite struct GenerateCommandTests {
  /// The model's own second token is made its end token: generation stops there unless told to go on.
  @Test func stopsAtTheEndTokenUnlessItIsIgnored() throws {
    let outcome = try Shell().run(
      """
      echo '{"sequences": [[5, 9, 200, 31]]}' > ids.json
      free=$(smelt generate v4 --tokens ids.json --max-tokens 4 --ignore-eos)
      second=$(echo $free | cut -d' ' -f2)
      mkdir m && cp v4/model.safetensors m
      sed "s/\\"eos_token_id\\": [0-9]*/\\"eos_token_id\\": $second/" v4/config.json > m/config.json
      echo "$free"
      smelt generate m --tokens ids.json --max-tokens 4
      smelt generate m --tokens ids.json --max-tokens 4 --ignore-eos
      """)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let lines = outcome.stdout.split(separator: "\n").map { $0.split(separator: " ") }
    try #require(lines.count == 3 && lines[0].count == 4)
    #expect(lines[1] == Array(lines[0].prefix(lines[0][0] == lines[0][1] ? 1 : 2)))
    #expect(lines[2] == lines[0])
  }
}
