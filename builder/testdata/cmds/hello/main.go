// Command hello is a second command for the builder's tests.
package main

import "fmt"

func main() { fmt.Println("hello") }
