package main

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"reflect"

	"github.com/vmware/govmomi/vim25/types"
	vim "github.com/vmware/govmomi/vim25/xml"
)

// encodeFault writes a fault in the form that vCenter gives it.
func encodeFault(message string, fault types.BaseMethodFault) *reply {
	answer := &reply{status: http.StatusInternalServerError}
	name := reflect.TypeOf(fault).Elem().Name()
	fmt.Fprint(answer, xml.Header, `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" `,
		`xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>`,
		`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>`)
	_ = xml.EscapeText(answer, []byte(message))
	fmt.Fprint(answer, `</faultstring><detail>`)
	start := vim.StartElement{
		Name: vim.Name{Local: name + "Fault"},
		Attr: []vim.Attr{
			{Name: vim.Name{Local: "xmlns"}, Value: "urn:vim25"},
			{Name: vim.Name{Local: "xsi:type"}, Value: name},
		},
	}
	encoder := vim.NewEncoder(answer)
	if err := encoder.EncodeElement(fault, start); err == nil {
		_ = encoder.Flush()
	}
	fmt.Fprint(answer, `</detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
	return answer
}
