package cli

// ParseConfigFile returns what a configuration file sets, each value with the line of it,
// and the lines of its mistakes.
func ParseConfigFile(text []byte) (values map[string][]string, lines, wrong []int) {
	values = map[string][]string{}
	given, mistakes := parseConfigFile("test.toml", text, new(draft).settings())
	for name, g := range given {
		values[name] = g.texts()
		for _, v := range g.values {
			lines = append(lines, v.at.line)
		}
	}
	for _, m := range mistakes {
		wrong = append(wrong, m.at.line)
	}
	return values, lines, wrong
}
