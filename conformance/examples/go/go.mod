module example.org/levada

go 1.23
