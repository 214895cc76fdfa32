module github.com/tidewire/tidewire

go 1.26.0
