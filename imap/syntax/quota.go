package syntax

// MaxResources bounds the limits of one SETQUOTA.
const MaxResources = 100

// ResourceLimit is a limit as SETQUOTA gives it (RFC 9208 section 7).
type ResourceLimit struct {
	Name  string // of the resource, in capitals
	Limit int64  // in its unit, 0 or more
}

// ResourceLimits reads those of SETQUOTA.
func (p *Parser) ResourceLimits() []ResourceLimit {
	return items(p, MaxResources, "resources", "", func() ResourceLimit {
		name := p.Keyword("the name of a resource")
		p.SP()
		return ResourceLimit{Name: name, Limit: int64(p.Number64())}
	})
}
