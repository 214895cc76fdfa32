package doctor

// Remedies are all of them, by the heading in docs/proxies.md.
func Remedies() map[string][]Remedy {
	all := map[string][]Remedy{}
	for c, r := range remedies {
		all[string(c)] = r
	}
	return all
}
