package cli

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// setFromFile sets flags that the command line does not have from a file whose keys are
// their names, and returns everything that is wrong with it.
func setFromFile(flags *pflag.FlagSet, name string) (wrong []string) {
	text, err := os.ReadFile(name)
	if err != nil {
		return []string{fmt.Sprintf("--config: %v", err)}
	}
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return []string{fmt.Sprintf("--config: %s: %v", name, err)}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		flag := flags.Lookup(key)
		if flag == nil || key == "config" || key == "help" {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no flag: the keys are the flags' names, such as listen", name, key))
			continue
		}
		if flag.Changed {
			continue
		}
		if err := setFlag(flags, key, keys[key]); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %s: %v", name, key, err))
		}
	}
	return wrong
}

// setFlag sets a flag to a value of TOML; each element of a list as if it were repeated.
func setFlag(flags *pflag.FlagSet, key string, value any) error {
	switch v := value.(type) {
	case []any:
		if !strings.HasSuffix(flags.Lookup(key).Value.Type(), "Array") {
			return fmt.Errorf("it is a list, and can be one value only")
		}
		for _, element := range v {
			if err := setFlag(flags, key, element); err != nil {
				return err
			}
		}
		return nil
	case string, bool, int64, float64:
		return flags.Set(key, fmt.Sprint(v))
	}
	return fmt.Errorf("it is neither text, nor a number, true, false, or a list of those")
}
