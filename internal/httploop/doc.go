// Package httploop serves requests of HTTP/1.1 that have come whole and are plain: those of
// publishers and of subscribers to event streams, which are nearly all that a hub gets.
// Between them a connection has no goroutine and no buffer, and a new one costs a few
// system calls. Everything else, from a header that is not known here to a body that is
// still on its way, is left unread to net/http, as if the loop had never been.
//
// What a request is, is said by [http.ReadRequest]; the package looks before that only
// whether it is plain.
//
// It is for Linux. Elsewhere, and with the build tag portable, there is none.
package httploop
